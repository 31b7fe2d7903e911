/** Records of a probe guest, which it goes on writing while they are read. */
import { expect, it } from 'vitest';
import {
  COMPLETIONS_OFFSET,
  CONTROL_BYTES,
  RING_ENTRIES,
  SIZE_COMPLETION,
  W_COMPLETION_DONE_HI,
  W_COMPLETION_DONE_LO,
  W_COMPLETION_SEQ_PLUS_1,
  W_COMPLETION_WAIT,
} from '../../arbiter/abi/layout.gen.ts';
import { Records } from '../../bench/lib/records.ts';
import { createControlPage, mapShared } from '../../native/index.ts';

/** A page of its own, and the guest's hand in it. */
function page(): { records: Records; write: (seq: number) => void } {
  const fd = createControlPage('records');
  const words = new Int32Array(mapShared(fd, CONTROL_BYTES));
  const write = (seq: number): void => {
    const at = (COMPLETIONS_OFFSET + (seq % RING_ENTRIES) * SIZE_COMPLETION) / 4;
    words[at + W_COMPLETION_WAIT] = seq * 2;
    words[at + W_COMPLETION_DONE_LO] = seq * 3;
    words[at + W_COMPLETION_DONE_HI] = 1;
    words[at + W_COMPLETION_SEQ_PLUS_1] = seq + 1;
  };
  return { records: new Records(fd), write };
}

const read = (records: Records): [number[], boolean] => {
  const seen: number[] = [];
  const whole = records.read((ticks, end, more) => {
    expect([ticks % 2, end, more]).toEqual([0, (ticks / 2) * 3, 1]);
    seen.push(ticks / 2);
  });
  return [seen, whole];
};

it('are each read once', () => {
  const { records, write } = page();
  expect(read(records)).toEqual([[], true]);
  [0, 1, 2].forEach(write);
  expect(read(records)).toEqual([[0, 1, 2], true]);
  expect(read(records)).toEqual([[], true]);
  write(3);
  expect(read(records)).toEqual([[3], true]);
});

it('are said to be lost if the guest has come round', () => {
  const { records, write } = page();
  for (let seq = 0; seq < RING_ENTRIES + 2; seq++) write(seq);
  expect(read(records)).toEqual([[], false]);
  const [seen, whole] = read(records);
  expect(whole).toBe(true);
  expect(seen[0]).toBe(RING_ENTRIES);
});
