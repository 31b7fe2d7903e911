/** Reads the kernel's log: what must not be in it after a run. */

/** Each is something that the kernel says only when it, or a module, did something wrong. */
const COMPLAINTS: readonly RegExp[] = [
  /\bWARNING: /,
  /\bBUG: /,
  /\bkernel BUG at\b/,
  /\bOops\b/,
  /\bKernel panic\b/,
  /\bKASAN: /,
  /\bKCSAN: /,
  /\bUBSAN: /,
  /\bUnable to handle\b/i,
  /\bgeneral protection fault\b/,
  /\bdouble fault\b/i,
  /\bpossible (circular|recursive) locking\b/,
  /\binconsistent lock state\b/,
  /\binvalid wait context\b/i,
  /\bsuspicious RCU usage\b/,
  /\bsleeping function called from invalid context\b/,
  /\bscheduling while atomic\b/,
  /\bheld lock freed\b/i,
  /\bbad unlock balance\b/,
  /\brcu.*(self-detected stall|detected (expedited )?stalls?)/,
  /\b(soft|hard) (lockup|LOCKUP)\b/,
  /\bhung_task: blocked\b|\bblocked for more than \d+ seconds\b/,
  /\bODEBUG: /,
  /\bunchecked MSR access\b/,
  /\brefcount_t: /,
  /\blist_(add|del) corruption\b/,
  /\bkmemleak: [1-9]/,
];

/** A machine under TCG says these, whatever runs in it. */
const HARMLESS: readonly RegExp[] = [
  /clocksource: .*skewed/,
  /\bMDS: Vulnerable|\bSpeculative Return Stack Overflow: WARNING/,
];

export interface Complaint {
  /** Index of the line that says it. */
  line: number;
  text: string;
}

export function findComplaints(lines: readonly string[]): Complaint[] {
  const found: Complaint[] = [];
  lines.forEach((text, line) => {
    if (COMPLAINTS.some((pattern) => pattern.test(text)) && !HARMLESS.some((pattern) => pattern.test(text)))
      found.push({ line, text });
  });
  return found;
}

/** The records of /dev/kmsg ("priority,number,microseconds,flags;text", details indented) as dmesg shows them. */
export function readRecords(text: string): string[] {
  const lines: string[] = [];
  for (const record of text.split('\n')) {
    const found = /^\d+,\d+,(\d+),[^;]*;(.*)$/.exec(record);
    if (found === null) continue;
    const us = Number(found[1]);
    const stamp = `${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}`;
    lines.push(`[${stamp.padStart(12)}] ${found[2]}`);
  }
  return lines;
}

/** A complaint with what follows it, which says where it came from; long ones are cut. */
export function excerpt(lines: readonly string[], { line }: Complaint, most = 40): string[] {
  const part = lines.slice(line, line + most);
  const end = part.findIndex((text) => /---\[ end (trace|Kernel panic)/.test(text));
  return end < 0 ? part : part.slice(0, end + 1);
}
