/** The reader of a trace ring, against a writer as the guest has it, a lazy one, a fast one, and hostile ones. */
import { describe, expect, test } from 'vitest';
import {
  SIZE_TRACE_RECORD,
  TRACE_RECORDS,
  W_TRACE_RECORD_SEQ_PLUS_1,
  W_TRACE_RECORD_TIME,
  W_TRACE_RECORD_UTHREAD,
  W_TRACE_RECORD_WHAT,
} from '../../arbiter/abi/layout.gen.ts';
import { RingReader } from '../../arbiter/observe/trace/ring.ts';

const WORDS = SIZE_TRACE_RECORD / 4;

class Ring {
  readonly words = new Int32Array(TRACE_RECORDS * WORDS);
  next: number;

  constructor(next = 0) {
    this.next = next;
  }

  /** Writes records as the guest does; each says its number everywhere. */
  write(count: number): void {
    for (let i = 0; i < count; i++) {
      const at = this.at(this.next);
      this.words[at + W_TRACE_RECORD_TIME] = this.next;
      this.words[at + W_TRACE_RECORD_WHAT] = 1;
      this.words[at + W_TRACE_RECORD_UTHREAD] = this.next;
      this.words[at + W_TRACE_RECORD_SEQ_PLUS_1] = this.next + 1;
      this.next = (this.next + 1) | 0;
    }
  }

  at(number: number): number {
    return (number & (TRACE_RECORDS - 1)) * WORDS;
  }
}

function read(reader: RingReader): number[] {
  const times: number[] = [];
  reader.read((time, what, uthread) => {
    expect([what, uthread]).toEqual([1, time]);
    times.push(time);
  });
  return times;
}

const numbers = (from: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (from + i) | 0);

describe('a ring', () => {
  test('is read once, in order, from where the reader came', () => {
    const ring = new Ring();
    ring.write(5);
    const reader = new RingReader(ring.words);
    expect(read(reader)).toEqual([]);
    ring.write(3);
    expect(read(reader)).toEqual([5, 6, 7]);
    expect(read(reader)).toEqual([]);
    ring.write(TRACE_RECORDS);
    expect(read(reader)).toEqual(numbers(8, TRACE_RECORDS));
    expect(reader.lost).toBe(0);
  });

  test('that nobody has written yet has nothing', () => {
    const ring = new Ring();
    const reader = new RingReader(ring.words);
    expect(read(reader)).toEqual([]);
    ring.write(2);
    expect(read(reader)).toEqual([0, 1]);
  });

  test('whose writer was laps ahead: what was overwritten is counted, and it goes on', () => {
    const ring = new Ring();
    const reader = new RingReader(ring.words);
    ring.write(TRACE_RECORDS * 3 + 17);
    const got = read(reader);
    expect(got.length).toBeGreaterThan(TRACE_RECORDS / 2);
    expect(got).toEqual(numbers(got[0], got.length));
    expect(got.at(-1)).toBe(ring.next - 1);
    expect(reader.lost + got.length).toBe(ring.next);
    ring.write(4);
    expect(read(reader)).toEqual(numbers(ring.next - 4, 4));
  });

  test.each([0x7fffffff - 3, -4])('whose numbers wrap near %i', (start) => {
    const ring = new Ring(start);
    ring.write(2);
    const reader = new RingReader(ring.words);
    ring.write(100);
    // The one whose successor is 0 looks like one that is being written.
    const expected = numbers(start + 2, 100).filter((number) => number !== -1);
    expect(read(reader)).toEqual(expected);
    expect(reader.lost).toBe(100 - expected.length);
  });

  test('with a record that is just being written is read up to it', () => {
    const ring = new Ring();
    const reader = new RingReader(ring.words);
    ring.write(3);
    const seq = ring.at(1) + W_TRACE_RECORD_SEQ_PLUS_1;
    ring.words[seq] = 0;
    expect(read(reader)).toEqual([0]);
    ring.words[seq] = 2;
    expect(read(reader)).toEqual([1, 2]);
    expect(reader.lost).toBe(0);
  });

  test('whose record changes under the reader: it is lost, not made up', () => {
    const ring = new Ring();
    const reader = new RingReader(ring.words);
    ring.write(3);
    // The second look finds another number, as if the writer had come around in between.
    const real = Atomics.load;
    let looks = 0;
    Atomics.load = ((words: Int32Array, at: number): number => {
      if (at === ring.at(1) + W_TRACE_RECORD_SEQ_PLUS_1 && ++looks === 2) return 0;
      return real(words, at);
    }) as typeof Atomics.load;
    try {
      expect(read(reader)).toEqual([0, 2]);
    } finally {
      Atomics.load = real;
    }
    expect(reader.lost).toBe(1);
  });
});

describe('a hostile ring costs a bounded amount of work', () => {
  const visits = (words: Int32Array, change: () => void): number => {
    const reader = new RingReader(words);
    let most = 0;
    for (let i = 0; i < 200; i++) {
      change();
      let got = 0;
      reader.read(() => got++);
      most = Math.max(most, got);
    }
    expect(Number.isSafeInteger(reader.lost) && reader.lost >= 0).toBe(true);
    return most;
  };

  test('of noise', () => {
    const { words } = new Ring();
    let random = 12345;
    const noise = (): void => {
      for (let i = 0; i < words.length; i += 1) {
        random = (Math.imul(random, 1103515245) + 12345) | 0;
        words[i] = random;
      }
    };
    noise();
    expect(visits(words, noise)).toBeLessThanOrEqual(TRACE_RECORDS);
  });

  test('of numbers that jump', () => {
    const { words } = new Ring();
    let number = 0;
    const jump = (): void => {
      number = (number + 0x7fffff00) | 0;
      words[(number & (TRACE_RECORDS - 1)) * WORDS] = number + 1;
    };
    expect(visits(words, jump)).toBeLessThanOrEqual(TRACE_RECORDS);
  });

  test.each([0, 1, -1, 0x7fffffff, -0x80000000])('full of %i', (value) => {
    const { words } = new Ring();
    expect(visits(words, () => words.fill(value))).toBeLessThanOrEqual(TRACE_RECORDS);
  });
});
