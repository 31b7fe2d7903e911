import { expect, test } from 'vitest';
import { isMistaken, parseCheckpatch } from './checkpatch.ts';
import { complaint } from './compile.ts';
import { relocate } from './headers.ts';
import { reportOf, table } from './report.ts';
import { parseSparse } from './sparse.ts';

test('an undefined symbol and a warning are complaints, an error comes first', () => {
  expect(complaint('  CC [M] a.o\n  LD [M] a.ko\n')).toBeUndefined();
  expect(complaint('WARNING: modpost: missing MODULE_DESCRIPTION() in a.o')).toContain('missing');
  expect(complaint('a.c:1:1: warning: x\nERROR: modpost: "f" [a.ko] undefined!')).toContain('undefined!');
});

test('sparse: findings in the module count once, those in the kernel do not', () => {
  const line = '/copy/kmod/a.c:3:17: warning: dereference of noderef expression';
  const output = `  CHECK   a.c\n${line}\n${line}\n/usr/src/linux/include/x.h:1:1: warning: y\n/copy/abi/k.h:2:1: error: z\n`;
  expect(parseSparse(output, '/copy', '/repo/kmod')).toEqual([
    { file: '/repo/kmod/a.c', line: 3, text: 'warning: dereference of noderef expression' },
    { file: '/repo/abi/k.h', line: 2, text: 'error: z' },
  ]);
});

test('checkpatch: its lines, and nothing else', () => {
  expect(parseCheckpatch('a.c:7: CHECK:SPACING: no\ntotal: 0 errors, 1 checks\n')).toEqual([
    { file: 'a.c', line: 7, text: 'CHECK:SPACING: no' },
  ]);
});

test("Debian's makefiles are moved to where they are", () => {
  const makefile =
    'KBUILD_OUTPUT=/usr/src/linux-headers-7-amd64\ninclude /usr/src/linux-headers-7-common/Makefile\n';
  expect(relocate(makefile, '/c')).toBe(
    'KBUILD_OUTPUT=/c/usr/src/linux-headers-7-amd64\ninclude /c/usr/src/linux-headers-7-common/Makefile\n',
  );
});

test('the table says why, and counts', () => {
  const row = { series: '', release: 'sid', version: '1', compiler: 'gcc-16', modules: [] };
  const report = reportOf('kmod', [
    {
      ...row,
      kernel: '7.2.1-amd64',
      outcome: 'ok',
      why: '',
      modules: [{ file: 'k.ko', bytes: 2048, vermagic: '' }],
    },
    { ...row, kernel: '7.2.1-rt-amd64', outcome: 'failed', why: 'a.c:1: error: x' },
    { ...row, kernel: '7.3.1-amd64', outcome: 'not compiled', why: 'no network' },
  ]);
  expect(table(report).split('\n')).toEqual([
    'kernel          release  compiler  result',
    '7.2.1-amd64     sid      gcc-16    ok            2 KiB',
    '7.2.1-rt-amd64  sid      gcc-16    failed        a.c:1: error: x',
    '7.3.1-amd64     sid      gcc-16    not compiled  no network',
    '',
    '3 kernels: 1 ok, 1 failed, 1 not compiled',
  ]);
});

test('checkpatch is not believed about trace headers and version checks, and about nothing else', () => {
  const finding = (text: string): Parameters<typeof isMistaken>[0] => ({ file: 'a.h', line: 2, text });
  const trace = '#include <trace/define_trace.h>\n';
  expect(isMistaken(finding('CHECK:OPEN_ENDED_LINE: x'), trace)).toBe(true);
  expect(isMistaken(finding('CHECK:OPEN_ENDED_LINE: x'), '')).toBe(false);
  expect(isMistaken(finding('ERROR:OPEN_BRACE: x'), trace)).toBe(false);
  const version = finding('WARNING:CONSTANT_COMPARISON: x');
  expect(isMistaken(version, '\n#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)\n')).toBe(true);
  expect(isMistaken(version, '\nif (3 == x)\n')).toBe(false);
});
