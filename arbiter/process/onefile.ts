/**
 * Makes one plain script of a TypeScript module and everything it imports, for a
 * worker that has to be fast. Measured on the loop (bench/README.md), for two
 * reasons it is up to twice as fast as the same code loaded as modules:
 *
 * - An imported constant is a cell that V8 reads, checks and unboxes at each use. In
 *   one script it is a `const` of an enclosing function, which V8 folds into the code.
 * - Node strips types with a WebAssembly module, whose memory grows; growing detaches
 *   an ArrayBuffer, and from then on each access to a typed array in that thread checks
 *   whether its buffer is detached. The worker of one script strips nothing: this
 *   function does, in the thread that calls it.
 *
 * Each module becomes a function that returns its exports, compiled under the module's
 * file name and with its lines where they were, so that errors say where they come
 * from. It does what our modules need and refuses the rest: no cycles, no default
 * exports, no `export let`.
 */
import { readFileSync } from 'node:fs';
import { isBuiltin, stripTypeScriptTypes } from 'node:module';
import { fileURLToPath } from 'node:url';

interface Unit {
  /** The identifier that holds the module's exports. */
  id: string;
  file: string;
  /** Identifiers of the modules that it imports. */
  uses: Set<string>;
  code: string;
}

const IMPORT = /^import\s+(?:([\s\S]*?)\s+from\s+)?(['"])([^'"\n]+)\2;?/gm;
const REEXPORT = /^export\s+(\*|\{[^}]*\})\s+from\s+(['"])([^'"\n]+)\2;?/gm;
const LIST = /^export\s+\{([^}]*)\};?/gm;
const DECLARATION = /^export\s+((?:async\s+)?function\*?|class|const)\s+([A-Za-z_$][\w$]*)/gm;
const WHATEVER = /^(?:export|import)\b(?!\s*[.(]).*$/m;

/** The script's text. Start it as `new Worker(text, { eval: true, ... })`. */
export function oneFile(entry: URL): string {
  const units = new Map<string, Unit>();
  const order: Unit[] = [];

  function load(url: URL, path: readonly string[]): string {
    const key = url.href;
    if (path.includes(key)) throw new Error(`${name(url)} imports itself, by way of ${path.length} modules`);
    const known = units.get(key);
    if (known !== undefined) return known.id;
    const unit: Unit = { id: `module${units.size}`, file: name(url), uses: new Set(), code: '' };
    units.set(key, unit);
    unit.code = wrap(url, (specifier) => {
      if (isBuiltin(specifier)) return `require(${JSON.stringify(specifier)})`;
      if (!/^\.{0,2}\//.test(specifier)) return `require(${JSON.stringify(specifier)})`;
      const id = load(new URL(specifier, url), [...path, key]);
      unit.uses.add(id);
      return id;
    });
    order.push(unit);
    return unit.id;
  }

  load(entry, []);
  const head = [
    "'use strict';",
    "const { Script } = require('node:vm');",
    `{ const { createRequire } = require('node:module'); require = createRequire(${JSON.stringify(entry.href)}); }`,
  ];
  return [...head, ...order.map(declare), ''].join('\n');
}

function declare({ id, file, uses, code }: Unit): string {
  const names = ['require', ...uses].join(', ');
  // The code begins in the function's first line: that keeps its line numbers.
  const text = JSON.stringify(`(function (${names}) { 'use strict'; ${code} })`);
  return `const ${id} = new Script(${text}, { filename: ${JSON.stringify(file)} }).runInThisContext()(${names});`;
}

const name = (url: URL): string => fileURLToPath(url);

/** As many lines as there were, for what stands below. */
const lines = (before: string): string => '\n'.repeat(before.split('\n').length - 1);

/** A module as the body of a function that returns the exports. */
function wrap(url: URL, resolve: (specifier: string) => string): string {
  const exported: string[] = [];
  let code = strip(readFileSync(url, 'utf8'), url);
  code = code.replace(REEXPORT, (all: string, what: string, _quote, specifier: string) => {
    const from = resolve(specifier);
    exported.push(
      what === '*'
        ? `...${from}`
        : pairs(what.slice(1, -1))
            .map((p) => `${p.as}: ${from}.${p.of}`)
            .join(', '),
    );
    return lines(all);
  });
  code = code.replace(
    IMPORT,
    (all: string, what: string | undefined, _quote, specifier: string) =>
      bind(what?.trim(), resolve(specifier)) + lines(all),
  );
  code = code.replace(LIST, (all: string, what: string) => {
    exported.push(
      pairs(what)
        .map((p) => `${p.as}: ${p.of}`)
        .join(', '),
    );
    return lines(all);
  });
  code = code.replace(DECLARATION, (_, kind: string, id: string) => {
    exported.push(id);
    return `${kind} ${id}`;
  });
  const odd = WHATEVER.exec(code);
  if (odd !== null) throw new Error(`${name(url)}: this cannot be put into one file: ${odd[0]}`);
  code = code.replaceAll('import.meta.url', JSON.stringify(url.href));
  return `${code}\nreturn { ${exported.filter((e) => e !== '').join(', ')} };`;
}

interface Pair {
  of: string;
  as: string;
}

/** "a, b as c": what is taken and what it is called. Types have been blanked. */
function pairs(list: string): Pair[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
    .map((item) => {
      const [of, as = of] = item.split(/\s+as\s+/);
      return { of, as };
    });
}

/** The declaration that stands for an import. */
function bind(what: string | undefined, from: string): string {
  if (what === undefined || what === '{}') return `${from};`;
  if (what.startsWith('*')) return `const ${what.replace(/^\*\s+as\s+/, '')} = ${from};`;
  if (what.startsWith('{')) {
    const names = pairs(what.slice(1, -1)).map(({ of, as }) => (of === as ? of : `${of}: ${as}`));
    return `const { ${names.join(', ')} } = ${from};`;
  }
  if (!/^[\w$]+$/.test(what)) throw new Error(`this import cannot be put into one file: ${what}`);
  // A package of the older kind is its own default export.
  return `const ${what} = ${from}.default ?? ${from};`;
}

/** Types become blanks, so that lines keep their numbers. Node's warning that this is an experiment is not for users. */
function strip(source: string, url: URL): string {
  const emit = Object.getOwnPropertyDescriptor(process, 'emitWarning');
  Object.defineProperty(process, 'emitWarning', {
    value: () => undefined,
    configurable: true,
    writable: true,
  });
  try {
    return stripTypeScriptTypes(source);
  } catch (cause) {
    throw new Error(`${name(url)}: types cannot be stripped: ${(cause as Error).message}`, { cause });
  } finally {
    if (emit === undefined) Reflect.deleteProperty(process, 'emitWarning');
    else Object.defineProperty(process, 'emitWarning', emit);
  }
}
