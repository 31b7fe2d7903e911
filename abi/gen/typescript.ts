/**
 * Writes the TypeScript side: arbiter/abi/layout.gen.ts and protocol.gen.ts.
 *
 * A layout is plain numbers and not an object for each struct, because V8 folds
 * module constants into the machine code of the loop and property reads it does not.
 * The text is what prettier would make of it.
 */
import {
  camelCase,
  headingAndDocs,
  markdown,
  NOTICE,
  operations,
  refuseDuplicates,
  SPDX,
  unprefixed,
  wrap,
} from './text.ts';
import type { Doc, Field, FieldType, Header, Message } from './parse.ts';

const WIDTH = 110;

export function typescriptLayout(headers: readonly Header[]): string {
  const lines = notice();
  const names: string[] = [];
  /** Everything exported goes through here, so that no clash of names is missed. */
  function constant(name: string, value: number | string, doc: Doc): void {
    names.push(name);
    lines.push(...jsdoc(doc), `export const ${name} = ${value};`);
  }

  for (const header of headers) {
    if (header.constants.length + header.structs.length === 0) {
      continue;
    }
    lines.push('', `// ---- abi/${header.file} ----`);
    for (const group of header.constants) {
      const { heading, items } = headingAndDocs(group);
      lines.push('', ...lineComment(heading));
      for (const { name, value, literal, doc } of items) {
        constant(unprefixed(name), typeof value === 'string' ? quote(value) : literal, doc);
      }
    }
    for (const struct of header.structs) {
      const name = struct.name.toUpperCase();
      const origin = `\`struct flux_${struct.name}\` of abi/${header.file}.`;
      lines.push('');
      constant(`SIZE_${name}`, struct.size, [...struct.doc, ...(struct.doc.length > 0 ? [''] : []), origin]);
      for (const field of struct.fields) {
        constant(`OFF_${name}_${field.name.toUpperCase()}`, field.offset, field.doc);
      }
      for (const [suffix, word, doc] of struct.fields.flatMap(words)) {
        constant(`W_${name}_${suffix}`, word, doc);
      }
    }
  }
  refuseDuplicates('layout.gen.ts', names);
  return `${lines.join('\n')}\n`;
}

/** Indices into an Int32Array over the struct, where a field lies on such a word; of an array, its first element. */
function words(field: Field): [suffix: string, word: number, doc: Doc][] {
  if (field.offset % 4 !== 0 || 'struct' in field.type) {
    return [];
  }
  const name = field.name.toUpperCase();
  const word = field.offset / 4;
  if (field.type.scalar === 'u64') {
    return [
      [`${name}_LO`, word, field.doc],
      [`${name}_HI`, word + 1, []],
    ];
  }
  return [[name, word, field.doc]];
}

export function typescriptProtocol(headers: readonly Header[]): string {
  const messages = headers.flatMap((header) => header.messages.flatMap((group) => group.items));
  const requests = operations(headers);
  refuseDuplicates('protocol.gen.ts', [
    'Op',
    'Requests',
    'Replies',
    'FIELDS',
    ...messages.map((message) => camelCase(message.name)),
  ]);

  const lines = notice();
  for (const header of headers) {
    for (const group of header.messages) {
      const { heading, items } = headingAndDocs(group);
      if (heading.length > 0) {
        lines.push('', ...lineComment(heading));
      }
      for (const message of items) {
        lines.push('', ...messageInterface(message));
      }
    }
  }

  lines.push(
    '',
    ...jsdoc(['The values of the field `op`: messages that have a reply.']),
    ...opType(requests),
  );
  lines.push('', ...jsdoc(['The fields of each request.']), 'export interface Requests {');
  lines.push(...requests.map((name) => `  ${name}: ${camelCase(name)};`), '}');
  lines.push('', ...jsdoc(['The fields of the answer to each request.']), 'export interface Replies {');
  lines.push(...requests.map((name) => `  ${name}: ${camelCase(`${name}_reply`)};`), '}');

  const doc = 'The same as the interfaces, for checking at run time what came over the socket.';
  lines.push('', ...jsdoc([doc]), 'export const FIELDS = {');
  for (const message of messages) {
    if (message.fields.length === 0) {
      lines.push(`  ${message.name}: {},`);
    } else {
      lines.push(`  ${message.name}: {`);
      lines.push(...message.fields.map(({ name, type }) => `    ${name}: ${quote(wireName(type))},`), '  },');
    }
  }
  lines.push('} as const satisfies Record<string, Record<string, string>>;');
  return `${lines.join('\n')}\n`;
}

function messageInterface(message: Message): string[] {
  const head = [...jsdoc(message.doc), `export interface ${camelCase(message.name)} {`];
  if (message.fields.length === 0) {
    // An interface without members would be taken for a mistake by linters; this is the same type.
    return [...head.slice(0, -1), `export type ${camelCase(message.name)} = Record<never, never>;`];
  }
  return [...head, ...message.fields.map(({ name, type }) => `  ${name}: ${wireType(type)};`), '}'];
}

function opType(names: readonly string[]): string[] {
  const quoted = names.length > 0 ? names.map(quote) : ['never'];
  const line = `export type Op = ${quoted.join(' | ')};`;
  if (line.length <= WIDTH) {
    return [line];
  }
  return [
    'export type Op =',
    ...quoted.map((name, at) => `  | ${name}${at === quoted.length - 1 ? ';' : ''}`),
  ];
}

/** The type in TypeScript; a u64 is a number too, because nothing sent grows beyond 2^53. */
function wireType(type: FieldType): string {
  if ('list' in type) {
    return `${wireType(type.list)}[]`;
  }
  if ('message' in type) {
    return camelCase(type.message);
  }
  return type.name === 'string' ? 'string' : type.name === 'bool' ? 'boolean' : 'number';
}

/** The type as protocol.h spells it. */
function wireName(type: FieldType): string {
  if ('list' in type) {
    return `list(${wireName(type.list)})`;
  }
  return 'message' in type ? type.message : type.name;
}

/** As prettier quotes: single, unless that would need an escape. There are no backslashes and no double quotes. */
function quote(text: string): string {
  return text.includes("'") ? `"${text}"` : `'${text}'`;
}

function notice(): string[] {
  return [SPDX, ...NOTICE].map((line) => `// ${line}`);
}

function lineComment(doc: Doc): string[] {
  return wrap(markdown(doc), WIDTH - 3).map((line) => `// ${line}`.trimEnd());
}

function jsdoc(doc: Doc): string[] {
  const lines = wrap(markdown(doc), WIDTH - '/**  */'.length);
  if (lines.length === 0) {
    return [];
  }
  if (lines.length === 1) {
    return [`/** ${lines[0]} */`];
  }
  return ['/**', ...lines.map((line) => ` * ${line}`.trimEnd()), ' */'];
}
