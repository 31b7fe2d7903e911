/**
 * Writes every generated file of the shared contract, or with --check only says
 * which of them differ from what abi/*.h would give.
 *
 *   node abi/gen/generate.ts [--check]
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AbiError, parse } from './parse.ts';
import type { Header } from './parse.ts';
import { rustLayout, rustProtocol } from './rust.ts';
import { typescriptLayout, typescriptProtocol } from './typescript.ts';

const COMMAND = 'node abi/gen/generate.ts';

/** The folder that abi/ is in, wherever the command is run from. */
export const ROOT = join(import.meta.dirname, '..', '..');

/** All headers of abi/, so that a new one cannot be forgotten here. */
export function readHeaders(root: string = ROOT): Header[] {
  const folder = join(root, 'abi');
  const files = readdirSync(folder).filter((name) => name.endsWith('.h'));
  return parse(new Map(files.sort().map((file) => [file, readFileSync(join(folder, file), 'utf8')])));
}

/** The generated files in memory, by their path from the root. */
export function generate(headers: readonly Header[]): Map<string, string> {
  return new Map([
    ['abi/rust/src/generated.rs', rustLayout(headers)],
    ['abi/rust/src/protocol.rs', rustProtocol(headers)],
    ['arbiter/abi/layout.gen.ts', typescriptLayout(headers)],
    ['arbiter/abi/protocol.gen.ts', typescriptProtocol(headers)],
  ]);
}

/** The generated files that are missing or differ from what they should be. */
export function staleFiles(files: ReadonlyMap<string, string>, root: string = ROOT): string[] {
  return [...files].filter(([path, text]) => readIfThere(join(root, path)) !== text).map(([path]) => path);
}

function readIfThere(path: string): string | undefined {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}

function main(args: readonly string[]): number {
  const check = args[0] === '--check';
  if (args.length > (check ? 1 : 0)) {
    console.error(`usage: ${COMMAND} [--check]`);
    return 2;
  }
  const files = generate(readHeaders());
  const stale = staleFiles(files);
  for (const path of stale) {
    if (check) {
      console.error(`${path} is not what abi/*.h gives; run: ${COMMAND}`);
    } else {
      const target = join(ROOT, path);
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, files.get(path) ?? '');
      console.log(`wrote ${path}`);
    }
  }
  return check && stale.length > 0 ? 1 : 0;
}

if (import.meta.main) {
  try {
    process.exitCode = main(process.argv.slice(2));
  } catch (error) {
    // A mistake in a header is the user's to read, not a fault of the generator with a stack.
    if (!(error instanceof AbiError)) {
      throw error;
    }
    console.error(`abi/${error.message}`);
    process.exitCode = 1;
  }
}
