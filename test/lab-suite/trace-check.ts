/** Checks a kept trace of kFlux: node test/lab-suite/trace-check.ts FILE (or - for the standard input). */
import { createReadStream } from 'node:fs';
import { argv, exit, stdin } from 'node:process';
import { createInterface } from 'node:readline';
import { describe, TraceChecker } from './trace/check.ts';

const path = argv[2];
if (argv.length !== 3) {
  console.error(
    'usage: node test/lab-suite/trace-check.ts FILE\nThe file is made by kflux-test --trace FILE.',
  );
  exit(2);
}
const checker = new TraceChecker();
const input = path === '-' ? stdin : createReadStream(path);
input.on('error', (error: Error) => {
  console.error(`the trace cannot be read: ${error.message}`);
  exit(2);
});
for await (const line of createInterface({ input })) checker.line(line);
const verdict = checker.end();
console.log(describe(verdict).join('\n'));
exit(verdict.violations.length === 0 ? 0 : 1);
