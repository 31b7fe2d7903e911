import { describe, expect, test } from 'vitest';
import {
  CORE_NONE,
  HANDLE_IDLE,
  HANDLE_NONE,
  HEADER_OFFSET,
  LINE,
  MAX_VCPUS,
  MAX_VMS,
  VCPU_PARKED,
  VCPU_RUNNING,
} from './layout.gen.ts';
import {
  coreGeneration,
  coreLow,
  coreOwner,
  coreSuccessor,
  handle,
  handleParts,
  stamp,
  stampAfter,
  stampDifference,
  summaryOffset,
  vcpuCore,
  vcpuState,
  vcpuWord,
} from './words.ts';

/** The same bits as a signed integer, as Int32Array gives them. */
const signed = (word: number): number => word | 0;

describe('handles', () => {
  test('go there and back', () => {
    for (let slot = 0; slot < MAX_VMS; slot += 1) {
      for (let vcpu = 0; vcpu < MAX_VCPUS; vcpu += 1) {
        expect(handleParts(handle(slot, vcpu))).toEqual({ slot, vcpu });
      }
    }
    expect(handle(0, 0)).toBe(1);
    expect(handle(1, 2)).toBe(19);
    expect(handle(1023, 15)).toBe(16384);
  });

  test('out of range are nobody', () => {
    for (const nobody of [HANDLE_NONE, HANDLE_IDLE, 16385, -1]) {
      expect(handleParts(nobody)).toBeUndefined();
    }
    expect(handle(MAX_VMS, 0)).toBe(HANDLE_NONE);
    expect(handle(0, MAX_VCPUS)).toBe(HANDLE_NONE);
    expect(handle(-1, 0)).toBe(HANDLE_NONE);
    expect(handle(0, -1)).toBe(HANDLE_NONE);
  });
});

describe('stamps', () => {
  test('are the TSC shifted, whatever the sign of the halves', () => {
    const tsc = 0x8123_4567_89ab_cdefn;
    const low = Number(tsc & 0xffff_ffffn);
    const high = Number(tsc >> 32n);
    for (let shift = 0; shift < 64; shift += 1) {
      const expected = Number((tsc >> BigInt(shift)) & 0xffff_ffffn);
      expect(stamp(low, high, shift)).toBe(expected);
      expect(stamp(signed(low), signed(high), shift)).toBe(expected);
    }
    expect(stamp(7, 0, 64)).toBe(7);
  });

  test('compare across the wrap, whatever their sign', () => {
    expect(stampAfter(1, 0)).toBe(true);
    expect(stampAfter(0, 0)).toBe(false);
    expect(stampAfter(0, 1)).toBe(false);
    expect(stampAfter(3, 0xffff_fffc)).toBe(true);
    expect(stampAfter(3, signed(0xffff_fffc))).toBe(true);
    expect(stampAfter(0xffff_fffc, 3)).toBe(false);
    expect(stampDifference(3, 0xffff_fffc)).toBe(7);
    expect(stampDifference(signed(0xffff_fffc), 3)).toBe(-7);
  });
});

test('summaries repeat after 64 slots', () => {
  expect(summaryOffset(0)).toBe(0);
  expect(summaryOffset(63)).toBe(63 * 64);
  expect(summaryOffset(64)).toBe(0);
  expect(summaryOffset(1023) + LINE).toBeLessThanOrEqual(HEADER_OFFSET);
});

test('vCPU words hold state and core', () => {
  const word = vcpuWord(VCPU_RUNNING, CORE_NONE);
  expect(word).toBe(0x00ff_ff03);
  expect(vcpuState(word)).toBe(VCPU_RUNNING);
  expect(vcpuCore(word)).toBe(CORE_NONE);
  expect(vcpuCore(signed(0xff00_0102))).toBe(1);
  expect(vcpuWord(VCPU_PARKED, 0)).toBe(VCPU_PARKED);
});

test('core words hold owner, successor and generation', () => {
  const low = coreLow(0x1234, HANDLE_IDLE);
  expect(low).toBe(0xffff_1234);
  for (const word of [low, signed(low)]) {
    expect(coreOwner(word)).toBe(0x1234);
    expect(coreSuccessor(word)).toBe(HANDLE_IDLE);
  }
  expect(coreLow(0, 1)).toBe(0x1_0000);
  expect(coreGeneration(signed(0x89ab_cdef))).toBe(0x89ab_cdef);
});
