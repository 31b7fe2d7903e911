/**
 * Builds the rivals, from source, into the user's cache: their tool chains are looked for and are no
 * dependencies of HyperFlux. A rival that cannot be built is a reason, not an error.
 */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { entry, filesKey, listTree } from '../../test/lab/cache.ts';
import { debianGo } from './debian-go.ts';
import { GO, PTHREADS, TOKIO } from './goals.ts';

const sources = fileURLToPath(new URL('rivals/', import.meta.url));

export interface Built {
  readonly name: string;
  /** The command; or why there is none. */
  readonly program: string | { readonly missing: string };
}

export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  // The XDG rules: a relative path is to be ignored.
  const base = env.XDG_CACHE_HOME?.startsWith('/') ? env.XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'hyperflux/bench-uthreads');
}

/** The first of these programs, in PATH or where its own installer puts it. */
export function findProgram(
  names: readonly string[],
  more: readonly string[],
  path: string = process.env.PATH ?? '',
): string | null {
  const folders = [...path.split(delimiter).filter((folder) => folder.startsWith('/')), ...more];
  for (const name of names) {
    for (const folder of folders) {
      const program = join(folder, name);
      try {
        accessSync(program, constants.X_OK);
        return program;
      } catch {
        // Not this one.
      }
    }
  }
  return null;
}

/** Runs a tool to its end; what it printed. Rejects with what it complained of first. */
function run(command: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], command.slice(1), {
      ...{ cwd, env: { ...process.env, ...env } },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, errors] = ['', ''];
    child.stdout.on('data', (data: Buffer) => (out += data.toString()));
    child.stderr.on('data', (data: Buffer) => (errors += data.toString()));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) return resolve(out.trim());
      const lines = errors.split('\n').map((line) => line.trim());
      const said = lines.find((line) => /error|cannot|fail/i.test(line)) ?? lines.find((line) => line !== '');
      reject(new Error(said ?? `it ended with ${code}`));
    });
  });
}

interface Recipe {
  readonly name: string;
  readonly folder: string;
  readonly tools: readonly string[];
  readonly places: readonly string[];
  readonly install: string;
  /** Files outside its folder that it is made of too. */
  readonly shared?: readonly string[];
  /** Another way to get the tool, if it is not there. */
  fetch?(): Promise<string>;
  build(tool: string, source: string, out: string): Promise<void>;
}

const recipes: readonly Recipe[] = [
  {
    name: PTHREADS,
    folder: 'pthreads',
    tools: ['cc', 'gcc', 'clang'],
    places: [],
    install: 'apt-get install gcc libc6-dev',
    async build(tool, source, out) {
      const files = listTree(source).filter((file) => file.endsWith('.c'));
      await run([tool, '-O3', '-std=gnu11', '-pthread', ...files, '-o', out], source);
    },
  },
  {
    name: GO,
    folder: 'go',
    tools: ['go'],
    places: ['/usr/local/go/bin', '/usr/lib/go/bin'],
    install: 'apt-get install golang-go',
    fetch: debianGo,
    async build(tool, source, out) {
      // Nothing is fetched: it needs the standard library only.
      const env = {
        GOCACHE: `${out}.cache`,
        GOPROXY: 'off',
        GOTOOLCHAIN: 'local',
        GOFLAGS: '',
        CGO_ENABLED: '0',
      };
      await run([tool, 'build', '-trimpath', '-o', out, '.'], source, env);
      rmSync(env.GOCACHE, { recursive: true, force: true });
    },
  },
  {
    name: TOKIO,
    folder: 'tokio',
    tools: ['cargo'],
    places: [join(homedir(), '.cargo/bin')],
    install: 'https://rustup.rs',
    shared: ['../../../../guest-libos/apps/src/micro/quicksort.rs'],
    async build(tool, source, out) {
      const target = `${out}.target`;
      const env = { CARGO_TARGET_DIR: target, CARGO_BUILD_TARGET: undefined, RUSTFLAGS: undefined };
      await run([tool, 'build', '--quiet', '--release', '--locked'], source, env);
      renameSync(join(target, 'release/uthreads-tokio'), out);
      rmSync(target, { recursive: true, force: true });
    },
  },
];

async function buildOne(recipe: Recipe, { cache, path, fetch, build }: Where): Promise<Built> {
  const { name } = recipe;
  const source = join(sources, recipe.folder);
  try {
    const found = findProgram(recipe.tools, path === undefined ? recipe.places : [], path);
    const tool = found ?? (fetch ? await recipe.fetch?.() : undefined);
    if (tool === undefined)
      return { name, program: { missing: `there is no ${recipe.tools[0]} here (${recipe.install})` } };
    const version = await run([tool, ...(recipe.folder === 'go' ? ['version'] : ['--version'])], source);
    const files = listTree(source, (item) => item === 'target');
    const key = filesKey(source, [...files, ...(recipe.shared ?? [])], [version]);
    mkdirSync(cache, { recursive: true });
    const at = join(cache, `${recipe.folder}-${key}`);
    if (build !== undefined && !build.includes(name) && !existsSync(at))
      return { name, program: { missing: 'it was not built before, and may not be now' } };
    const program = await entry(at, (partial) => recipe.build(tool, source, partial));
    return { name, program };
  } catch (error) {
    return { name, program: { missing: `it could not be built: ${(error as Error).message}` } };
  }
}

/** Where programs are kept, and where tools are looked for instead of in PATH and the usual places. */
export interface Where {
  readonly cache: string;
  readonly path?: string;
  /** Whether a tool that is missing may be fetched. */
  readonly fetch?: boolean;
  /** Rivals that may be built, which can take a minute; the others must be in the cache. All unless given. */
  readonly build?: readonly string[];
}

/** All rivals. */
export async function buildRivals(where: Where = { cache: cacheFolder(), fetch: true }): Promise<Built[]> {
  const built: Built[] = [];
  for (const recipe of recipes) built.push(await buildOne(recipe, where));
  return built;
}
