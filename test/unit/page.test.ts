/** Control pages that are none, of another version, or of somebody else. */
import { beforeEach, describe, expect, test } from 'vitest';
import {
  ABI_MAJOR,
  CONTROL_BYTES,
  CONTROL_MAGIC,
  HEADER_OFFSET,
  HOT_BYTES,
  W_HEADER_ABI_MAJOR,
  W_HEADER_ABI_MINOR,
  W_HEADER_BYTES,
  W_HEADER_MAGIC,
  W_HEADER_SLOT,
} from '../../arbiter/abi/layout.gen.ts';
import { checkPage } from '../../arbiter/vm/page.ts';

const SLOT = 2;

describe('the control page that a Fluxion hands over', () => {
  let arena: ArrayBuffer;
  let header: Int32Array;
  beforeEach(() => {
    arena = new ArrayBuffer((SLOT + 1) * HOT_BYTES);
    header = new Int32Array(arena, SLOT * HOT_BYTES + HEADER_OFFSET);
    header[W_HEADER_MAGIC] = CONTROL_MAGIC;
    header[W_HEADER_ABI_MAJOR] = ABI_MAJOR;
    header[W_HEADER_BYTES] = CONTROL_BYTES;
    header[W_HEADER_SLOT] = SLOT;
  });
  const check = (): void => checkPage(arena, SLOT);

  test('a good one is accepted, also with a newer minor', () => {
    check();
    header[W_HEADER_ABI_MINOR] = 77;
    check();
  });

  test('that of an older minor is accepted, which is shorter', () => {
    header[W_HEADER_BYTES] = 0x80000;
    check();
  });

  test.each([
    ['the magic', W_HEADER_MAGIC, 0xdeadbeef | 0, /magic 0xdeadbeef instead of 0x58554c46/],
    ['an empty page', W_HEADER_MAGIC, 0, /magic 0x0/],
    [
      'the major version',
      W_HEADER_ABI_MAJOR,
      ABI_MAJOR + 1,
      new RegExp(`ABI ${ABI_MAJOR + 1}\\.0.* ${ABI_MAJOR}`),
    ],
    ['the size', W_HEADER_BYTES, 4096, /contradicts the hand-off table/],
    ['the slot', W_HEADER_SLOT, SLOT + 1, /contradicts the hand-off table/],
  ])('%s is wrong: refused, and said why', (_what, word, value, says) => {
    header[word] = value;
    expect(check).toThrow(says);
  });
});
