/** Which grants count as samples of a move's latency, on a made-up table. */
import { beforeEach, expect, test } from 'vitest';
import {
  CONTROL_BYTES,
  TABLE_BYTES,
  W_GUEST_VCPU_RESUME_GEN,
  W_GUEST_VCPU_RESUME_LO,
  W_HOST_VCPU_GRANT_GEN,
  W_VCPU_GRANTS,
  W_VCPU_T_DECIDED_LO,
  W_VCPU_T_GRANTED_LO,
} from '../../arbiter/abi/layout.gen.ts';
import { OP_GRANT, OP_HEIR, OP_MOVE } from '../../arbiter/bridge/bridge.ts';
import { makeHandle, tableVcpuBase } from '../../arbiter/bridge/words.ts';
import {
  REC_OP,
  REC_RESULT,
  REC_SEQ,
  REC_TO,
  REC_TSC_LO,
  REC_WORDS,
  RECORDS,
  S_RECORDS,
  STATS_BYTES,
  statsOver,
} from '../../arbiter/loop/stats.ts';
import { makeSampler } from '../../bench/demo/sampler.ts';
import type { Sampler, SamplerOutcome } from '../../bench/demo/sampler.ts';
import { watchedVcpu } from '../../bench/demo/watch.ts';

const KHZ = 1000; // a tick is a microsecond
const table = new Int32Array(TABLE_BYTES / 4);
const page = new Int32Array(CONTROL_BYTES / 4);
const stats = statsOver(new ArrayBuffer(STATS_BYTES));
const handle = makeHandle(5, 1);
const watched = watchedVcpu(5, 1, page);

let sampler: Sampler;

beforeEach(() => {
  table.fill(0);
  page.fill(0);
  stats.words.fill(0);
  stats.records.fill(0);
  sampler = makeSampler(table, stats, [watched], KHZ);
});

function decide(time: number, op = OP_MOVE, to = handle, result = 0): void {
  const number = stats.words[S_RECORDS];
  const at = (number & (RECORDS - 1)) * REC_WORDS;
  stats.records[at + REC_TSC_LO] = time;
  stats.records[at + REC_OP] = op;
  stats.records[at + REC_TO] = to;
  stats.records[at + REC_RESULT] = result;
  stats.records[at + REC_SEQ] = (number + 1) | 0;
  stats.words[S_RECORDS] = number + 1;
  if (to === handle && op !== OP_HEIR) table[watched.host + W_VCPU_T_DECIDED_LO] = time;
}

/** The vCPU is granted at this time, and its guest's first instruction comes at that. */
function grant(granted: number, resumed?: number): void {
  table[watched.host + W_VCPU_GRANTS]++;
  table[watched.host + W_VCPU_T_GRANTED_LO] = granted;
  if (resumed !== undefined) resume(resumed);
}

function resume(resumed: number): void {
  page[watched.hostHalf + W_HOST_VCPU_GRANT_GEN]++;
  page[watched.guestHalf + W_GUEST_VCPU_RESUME_LO] = resumed;
  page[watched.guestHalf + W_GUEST_VCPU_RESUME_GEN] = page[watched.hostHalf + W_HOST_VCPU_GRANT_GEN];
}

const found = (now: number): SamplerOutcome => {
  sampler.look(now);
  return sampler.outcome();
};
const outcome = (samples: number[], inherited = 0): SamplerOutcome => ({
  samples: new Float64Array(samples),
  inherited,
});

test('the block of a vCPU is found', () => {
  expect(watched.handle).toBe(handle);
  expect(watched.host).toBe(tableVcpuBase(5, 1));
});

test('a decided grant is a sample, once', () => {
  decide(1000);
  grant(1020, 1031);
  expect(found(5000)).toEqual(outcome([31]));
  expect(found(6000)).toEqual(outcome([31]));
});

test('a grant to an idle core counts as well; heirs, and decisions for others, do not', () => {
  decide(900, OP_GRANT);
  decide(1000, OP_HEIR);
  decide(1002, OP_MOVE, handle + 1);
  grant(1010, 1015);
  expect(found(5000)).toEqual(outcome([115]));
});

test('of several grants between two looks the last is the sample, if all were decided', () => {
  decide(1000);
  grant(1020, 1030);
  decide(2000);
  grant(2020, 2050);
  expect(found(5000)).toEqual(outcome([50]));
});

test('grants to heirs count for nothing, and spoil nothing later', () => {
  grant(500, 510);
  decide(1000);
  grant(1020, 1030);
  expect(found(5000)).toEqual(outcome([], 1));
  grant(6000, 6020);
  expect(found(7000)).toEqual(outcome([], 2));
  decide(8000);
  grant(8020, 8025);
  expect(found(9000)).toEqual(outcome([25], 2));
});

test('a decision that was refused is none', () => {
  decide(1000, OP_MOVE, handle, -16);
  grant(1020, 1031);
  expect(found(5000)).toEqual(outcome([], 1));
});

test('a grant whose guest is not back yet is looked at again', () => {
  decide(1000);
  grant(1020);
  expect(found(5000)).toEqual(outcome([]));
  // Back, but the stamp is that of an earlier grant.
  page[watched.guestHalf + W_GUEST_VCPU_RESUME_LO] = 900;
  expect(found(5000)).toEqual(outcome([]));
  resume(1050);
  expect(found(6000)).toEqual(outcome([50]));
});

test('a grant with the decision for the next one in its place is left', () => {
  decide(1000);
  grant(1020, 1031);
  decide(1040);
  expect(found(5000)).toEqual(outcome([]));
  grant(1060, 1065);
  expect(found(5000)).toEqual(outcome([25]));
});

test('what is too young is left for the next look', () => {
  decide(1000);
  grant(1020, 1031);
  expect(found(1100)).toEqual(outcome([]));
  expect(found(1300)).toEqual(outcome([31]));
});

test('records that were written over before they were read make a new beginning', () => {
  for (let i = 0; i < RECORDS; i++) decide(100);
  decide(1000);
  grant(1020, 1031);
  expect(found(5000)).toEqual(outcome([]));
  decide(6000);
  grant(6010, 6015);
  expect(found(7000)).toEqual(outcome([15]));
});

test('record numbers wrap', () => {
  stats.words[S_RECORDS] = 0x7fffffff;
  sampler = makeSampler(table, stats, [watched], KHZ);
  decide(1000);
  stats.words[S_RECORDS] = -0x80000000;
  decide(1010, OP_MOVE, handle + 1);
  grant(1020, 1031);
  expect(found(5000)).toEqual(outcome([31]));
});
