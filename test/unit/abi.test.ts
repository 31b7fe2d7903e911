/**
 * The generated files are those of today's headers, the generator lays structs out
 * as a C compiler does, and it refuses what it does not understand.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generate, readHeaders, ROOT, staleFiles } from '../../abi/gen/generate.ts';
import { parse } from '../../abi/gen/parse.ts';
import type { Header } from '../../abi/gen/parse.ts';
import { rustLayout, rustProtocol } from '../../abi/gen/rust.ts';
import { markdown, wrap } from '../../abi/gen/text.ts';
import { typescriptLayout, typescriptProtocol } from '../../abi/gen/typescript.ts';

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flux-abi-'));
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function parseOne(text: string): Header {
  const [header] = parse(new Map([['bad.h', text]]));
  if (!header) {
    throw new Error('parse() gave no header');
  }
  return header;
}

test('the checked-in files are what the headers give', () => {
  for (const [path, text] of generate(readHeaders())) {
    expect(readFileSync(join(ROOT, path), 'utf8'), `${path}: run node abi/gen/generate.ts`).toBe(text);
  }
});

describe('the layout is the C compiler’s', () => {
  /** Compiles and runs a program that prints a line for each expression. */
  function evaluate(includes: readonly string[], expressions: readonly string[]): string[] {
    const source = [
      '#include <stddef.h>',
      '#include <stdio.h>',
      ...includes.map((file) => `#include "${file}"`),
      'int main(void) {',
      ...expressions.map((expression) => `  printf("%llu\\n", (unsigned long long)(${expression}));`),
      '  return 0;',
      '}',
    ];
    writeFileSync(join(folder, 'probe.c'), source.join('\n'));
    const probe = join(folder, 'probe');
    execFileSync('gcc', ['-std=c11', '-Wall', '-Werror', '-o', probe, join(folder, 'probe.c')]);
    return execFileSync(probe, { encoding: 'utf8' }).trim().split('\n');
  }

  /** C expressions and what the parser holds them to be. */
  function claims(headers: readonly Header[]): Map<string, string> {
    const all = new Map<string, string>();
    for (const { constants, structs } of headers) {
      for (const { name, value } of constants.flatMap((group) => group.items)) {
        if (typeof value === 'number') {
          all.set(name, `${value}`);
        }
      }
      for (const { name, size, align, fields } of structs) {
        const struct = `struct flux_${name}`;
        all.set(`sizeof(${struct})`, `${size}`);
        all.set(`_Alignof(${struct})`, `${align}`);
        for (const field of fields) {
          all.set(`offsetof(${struct}, ${field.name})`, `${field.offset}`);
          all.set(`sizeof(((${struct} *)0)->${field.name})`, `${field.size}`);
        }
      }
    }
    return all;
  }

  test('for every struct and constant of abi/', () => {
    const headers = readHeaders();
    const expected = claims(headers);
    expect(expected.size).toBeGreaterThan(300);
    const files = headers.map((header) => join(ROOT, 'abi', header.file));
    const figures = evaluate(files, [...expected.keys()]);
    expect(new Map([...expected.keys()].map((expression, at) => [expression, figures[at]]))).toEqual(
      expected,
    );
  });

  test('for holes, nested structs and small fields, which abi/ has not got yet', () => {
    const text = `#include <stdint.h>
/* @plain */
struct flux_inner { uint8_t a; uint16_t b; uint8_t c; };
/* @plain */
struct flux_outer {
	uint8_t first;
	struct flux_inner inner[3];
	uint64_t wide;
	char name[5];
};
`;
    writeFileSync(join(folder, 'holes.h'), text);
    const expected = claims([parseOne(text)]);
    expect(evaluate(['holes.h'], [...expected.keys()])).toEqual([...expected.values()]);
    expect(expected.get('sizeof(struct flux_outer)')).toBe('40');
  });
});

describe('a mistake is refused with file, line and what was expected', () => {
  const field = (text: string): string => `/* @plain */\nstruct flux_a {\n${text}\n};\n`;
  const struct = field('uint32_t x;');

  test.each<[string, string, RegExp]>([
    ['unknown type', field('long x;'), /^bad\.h:3: expected a type \(uint8_t, .*\), found `long`$/],
    ['type named like a property of objects', field('constructor x;'), /^bad\.h:3: expected a type/],
    [
      'struct without tag',
      'struct flux_a { uint32_t x; };',
      /^bad\.h:1: expected .*@shared or @plain.*flux_a$/,
    ],
    [
      'tag not directly above',
      `/* @plain */\n\nstruct flux_a { uint32_t x; };`,
      /^bad\.h:3: expected .*@shared/,
    ],
    [
      'no semicolon',
      field('uint32_t x\nuint32_t y;'),
      /^bad\.h:3: expected `;` after the field x, found `uint32_t`$/,
    ],
    [
      'no semicolon at the end',
      '/* @plain */\nstruct flux_a { uint32_t x; }\n',
      /^bad\.h:2: expected `;` after struct/,
    ],
    [
      'unfinished struct',
      '/* @plain */\nstruct flux_a {\nuint32_t x;',
      /^bad\.h:3: .*found the end of the file$/,
    ],
    ['empty struct', field(''), /^bad\.h:2: expected at least one field/],
    [
      'struct not called flux_',
      '/* @plain */\nstruct a { uint32_t x; };',
      /^bad\.h:2: .*flux_\.\.\., found `a`$/,
    ],
    [
      'field twice',
      field('uint32_t x;\nuint32_t x;'),
      /^bad\.h:4: expected a name that struct flux_a has not yet/,
    ],
    [
      'name that Rust cannot have',
      field('uint32_t self;'),
      /^bad\.h:3: expected the name of a field, found `self`$/,
    ],
    ['pointer', field('uint32_t *x;'), /^bad\.h:3: expected a name, a number.*found `\*x;`$/],
    ['bit field', field('uint32_t x : 3;'), /^bad\.h:3: expected a name, a number/],
    ['unknown size', field('uint32_t x[FLUX_N];'), /^bad\.h:3: expected the number of elements.*`FLUX_N`$/],
    ['empty array', field('uint32_t x[0];'), /^bad\.h:3: expected at least one element/],
    ['struct not defined', field('struct flux_b b;'), /^bad\.h:3: expected a struct that is defined before/],
    [
      'mixed tags',
      `${struct}/* @shared */\nstruct flux_b { struct flux_a a; };`,
      /^bad\.h:6: expected flux_a to have the tag of flux_b$/,
    ],
    ['struct twice', struct + struct, /^bad\.h:6: expected a name that is not taken/],
    [
      'wrong static assertion',
      `${struct}_Static_assert(sizeof(struct flux_a) == 5, "a");`,
      /^bad\.h:5: expected struct flux_a to have 5 bytes, found 4$/,
    ],
    ['expression', '#define FLUX_A (1 + 2)', /^bad\.h:1: expected a number below 2\^32 or a string/],
    ['octal number', '#define FLUX_A 010', /^bad\.h:1: expected a number/],
    ['large number', '#define FLUX_A 0x100000000', /^bad\.h:1: expected a number below 2\^32/],
    ['no value', '\n#define FLUX_A', /^bad\.h:2: expected a number/],
    ['no prefix', '#define A 1', /^bad\.h:1: expected a constant with a name of the form FLUX_NAME/],
    ['macro', '#define FLUX_A(x) 1', /^bad\.h:1: expected a constant/],
    [
      'constant twice',
      '#define FLUX_A 1\n#define FLUX_A 1',
      /^bad\.h:2: expected a name that is not taken, found FLUX_A/,
    ],
    [
      'continued line',
      '#define FLUX_A \\\n1',
      /^bad\.h:1: expected a preprocessor line without continuation$/,
    ],
    ['condition', '#ifdef FLUX_A', /^bad\.h:1: expected #include, #define, #ifndef or #endif/],
    ['open condition', '\n#ifndef FLUX_A', /^bad\.h:2: expected an #endif/],
    ['closed condition', '#endif', /^bad\.h:1: expected an #ifndef/],
    [
      'unknown header',
      '#include "b.h"',
      /^bad\.h:1: expected <stdint\.h> or one of the headers bad\.h, found/,
    ],
    ['other declaration', 'typedef int x;', /^bad\.h:1: expected a #define, a struct.*found `typedef`$/],
    ['open comment', '\n/* ...', /^bad\.h:2: expected a comment of the form/],
    ['line comment', '// x', /^bad\.h:1: expected a comment of the form/],
    ['unknown field type', 'FLUX_MESSAGE(a, FLUX_FIELD(i32, x))', /^bad\.h:1: expected u32, .*found `i32`$/],
    ['unknown macro', 'FLUX_MESSAGE(a, FIELD(u32, x))', /^bad\.h:1: expected `FLUX_FIELD` in message a/],
    ['message twice', 'FLUX_MESSAGE(a)\nFLUX_MESSAGE(a)', /^bad\.h:2: expected a name that is not taken/],
  ])('%s', (_, text, message) => {
    expect(() => parse(new Map([['bad.h', text]]))).toThrow(message);
  });

  test('names that are the same after translation', () => {
    const [lo, wide] = ['uint32_t x_lo;', 'uint64_t x;'];
    expect(() => typescriptLayout([parseOne(field(`${lo}${wide}`))])).toThrow(/both be called W_A_X_LO/);
    const twice = `${struct}/* @plain */\nstruct flux_a_ { uint32_t x; };\n#define FLUX_A 1\n`;
    expect(() => rustLayout([parseOne(twice)])).toThrow(/both be called A/);
  });
});

describe('translation', () => {
  test('of names that are words of Rust', () => {
    const header = parseOne(
      '/* @plain */\nstruct flux_a { uint32_t type; };\nFLUX_MESSAGE(m, FLUX_FIELD(u32, type))',
    );
    expect(rustLayout([header])).toContain('    pub r#type: u32,\n');
    expect(rustLayout([header])).toContain('offset_of!(A, r#type) == 0');
    expect(rustProtocol([header])).toContain('    pub r#type: u32,\n');
    expect(typescriptProtocol([header])).toContain('  type: number;\n');
  });

  test('of the fields of shared and plain structs', () => {
    const fields = '{ uint32_t a[2]; uint64_t b; char c[8]; uint16_t d; uint16_t e; };';
    const header = parseOne(
      `/* @shared */\nstruct flux_s ${fields}\n/* @plain Words. */\nstruct flux_p ${fields}\n`,
    );
    const rust = rustLayout([header]);
    expect(rust).toMatch(
      /^#\[repr\(C\)\]\npub struct S \{\n {4}pub a: \[AtomicU32; 2\],\n {4}pub b: AtomicU64,$/m,
    );
    expect(rust).toMatch(/^ {4}pub c: \[AtomicU8; 8\],\n {4}pub d: AtomicU16,$/m);
    expect(rust).toMatch(
      /^\/\/\/ Words\.\n\/\/\/\n.*\n#\[derive\(Clone, Copy\)\]\n#\[repr\(C\)\]\npub struct P \{$/m,
    );
    expect(rust).toMatch(/^ {4}pub a: \[u32; 2\],\n {4}pub b: u64,\n {4}pub c: \[u8; 8\],$/m);

    const typescript = typescriptLayout([header]);
    expect(typescript.match(/^export const \w+_P_?.*;$/gm)).toEqual([
      'export const SIZE_P = 32;',
      'export const OFF_P_A = 0;',
      'export const OFF_P_B = 8;',
      'export const OFF_P_C = 16;',
      'export const OFF_P_D = 24;',
      'export const OFF_P_E = 26;',
      'export const W_P_A = 0;',
      'export const W_P_B_LO = 2;',
      'export const W_P_B_HI = 3;',
      'export const W_P_C = 4;',
      'export const W_P_D = 6;',
    ]);
  });

  test('of constants by their name', () => {
    const text =
      '#define FLUX_LINE 64\n#define FLUX_MAX_X 1\n#define FLUX_PORT_X 0xe0\n#define FLUX_X "x" /* Y */\n';
    expect(rustLayout([parseOne(text)])).toContain(
      'pub const LINE: usize = 64;\npub const MAX_X: usize = 1;\npub const PORT_X: u16 = 0xe0;\n' +
        '/// Y\npub const X: &str = "x";\n',
    );
    expect(typescriptLayout([parseOne(text)])).toContain("/** Y */\nexport const X = 'x';\n");
  });

  test('of comments above one thing and above several', () => {
    const text = '/* One. */\n#define FLUX_A 1\n\n/* Many. */\n#define FLUX_B 1\n#define FLUX_C 1\n';
    const rust = rustLayout([parseOne(text)]);
    expect(rust).toContain('\n/// One.\npub const A');
    expect(rust).toContain('\n// Many.\npub const B');
  });

  test('of an included header before the one that includes it', () => {
    const headers = parse(
      new Map([
        ['a.h', '#include "b.h"\n/* @plain */\nstruct flux_a { uint32_t x[FLUX_N]; };'],
        ['b.h', '#define FLUX_N 3'],
      ]),
    );
    expect(headers.map((header) => header.file)).toEqual(['b.h', 'a.h']);
    expect(headers[1]?.structs[0]?.size).toBe(12);
  });

  test('of names and placeholders in comments', () => {
    expect(markdown(['one of FLUX_A_*, `FLUX_B`; /proc/<pid>/fd/<fd>; a > 0'])).toEqual([
      'one of `A_*`, `B`; `/proc/<pid>/fd/<fd>`; a > 0',
    ]);
    expect(wrap(['one two three'], 7)).toEqual(['one two', 'three']);
    expect(wrap(['unbreakable', ''], 4)).toEqual(['unbreakable', '']);
  });
});

test('--check names each stale file and the command, and changes nothing', () => {
  const root = join(folder, 'tree');
  cpSync(join(ROOT, 'abi', 'gen'), join(root, 'abi', 'gen'), { recursive: true });
  const write = (text: string): void => writeFileSync(join(root, 'abi', 'a.h'), text);
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [join(root, 'abi', 'gen', 'generate.ts'), ...args], { encoding: 'utf8' });

  write('#define FLUX_A 1\n');
  expect(run()).toMatchObject({ status: 0, stderr: '' });
  expect(run('--check')).toMatchObject({ status: 0, stdout: '', stderr: '' });

  write('#define FLUX_A 2\n');
  const stale = ['abi/rust/src/generated.rs', 'arbiter/abi/layout.gen.ts'];
  for (let turn = 0; turn < 2; turn += 1) {
    const { status, stderr } = run('--check');
    expect(status).toBe(1);
    expect(stderr.trim().split('\n')).toEqual(
      stale.map((path) => `${path} is not what abi/*.h gives; run: node abi/gen/generate.ts`),
    );
  }
  expect(staleFiles(generate(readHeaders(root)), root)).toEqual(stale);

  write('#define FLUX_A\n');
  expect(run('--check')).toMatchObject({
    status: 1,
    stderr: 'abi/a.h:1: expected a number below 2^32 or a string as the value of FLUX_A, found ``\n',
  });
  expect(run('--chekc')).toMatchObject({ status: 2 });
});
