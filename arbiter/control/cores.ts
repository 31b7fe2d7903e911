/** Lists of cores as people write them. */
import { ControlError } from './protocol.ts';

/** 0-2,5 as numbers. Throws ControlError. */
export function parseCores(text: string, what = 'cores'): number[] {
  const found = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    const from = Number(match?.[1]);
    const to = Number(match?.[2] ?? match?.[1]);
    if (match === null || to < from) {
      throw new ControlError(
        'usage',
        `${what} ${JSON.stringify(text)}: give core numbers and ranges, for example 1-3,6`,
      );
    }
    for (let core = from; core <= to; core++) found.add(core);
  }
  return [...found].sort((a, b) => a - b);
}

/** Numbers as 0-2,5. */
export function formatCores(cores: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < cores.length;) {
    let end = i;
    while (cores[end + 1] === cores[end] + 1) end++;
    parts.push(end === i ? `${cores[i]}` : `${cores[i]}-${cores[end]}`);
    i = end + 1;
  }
  return parts.join(',');
}
