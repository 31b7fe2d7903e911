/**
 * Reads the headers of abi/ into a description of the shared layout.
 *
 * This is not a C parser. It accepts exactly the dialect that flux.h promises and
 * refuses the rest with file and line, because a construct that is passed over in
 * silence would be missing from one language only.
 */
import { AbiError, scan } from './scan.ts';
import type { Token } from './scan.ts';

export { AbiError } from './scan.ts';

export type Doc = readonly string[];

export interface Constant {
  /** The full C name, with its FLUX_ prefix. */
  name: string;
  value: number | string;
  /** The literal as the header spells it, so that masks and addresses stay hexadecimal. */
  literal: string;
  doc: Doc;
  line: number;
}

/** Things on consecutive lines: a comment above them speaks of all of them. */
export interface Group<T> {
  heading: Doc;
  items: T[];
}

export type Scalar = 'u8' | 'u16' | 'u32' | 'u64' | 'char';

export interface Field {
  name: string;
  /** Either a scalar or the name of a struct without its flux_ prefix. */
  type: { scalar: Scalar } | { struct: string };
  /** Elements of an array; undefined for a single value, which is not an array of one. */
  count: number | undefined;
  offset: number;
  /** Bytes of the whole field, all elements together. */
  size: number;
  doc: Doc;
  line: number;
}

export interface Struct {
  /** The name without its flux_ prefix. */
  name: string;
  shared: boolean;
  fields: Field[];
  size: number;
  align: number;
  doc: Doc;
  line: number;
}

export type FieldType =
  { name: 'u32' | 'u64' | 'f64' | 'bool' | 'string' } | { message: string } | { list: FieldType };

export interface Message {
  name: string;
  fields: { name: string; type: FieldType }[];
  doc: Doc;
  line: number;
}

export interface Header {
  file: string;
  constants: Group<Constant>[];
  structs: Struct[];
  messages: Group<Message>[];
}

const SCALARS: Readonly<Record<string, Scalar>> = {
  uint8_t: 'u8',
  uint16_t: 'u16',
  uint32_t: 'u32',
  uint64_t: 'u64',
  char: 'char',
};
const SCALAR_BYTES: Readonly<Record<Scalar, number>> = { u8: 1, u16: 2, u32: 4, u64: 8, char: 1 };
const WIRE_SCALARS = ['u32', 'u64', 'f64', 'bool', 'string'] as const;

/** Rust has no way at all to use these as field names, not even as raw identifiers. */
const IMPOSSIBLE_NAMES = new Set(['self', 'Self', 'super', 'crate']);

/**
 * Parses all headers. An included header is parsed before the one that includes
 * it, so a constant or struct may be used wherever the C compiler would know it.
 */
export function parse(sources: ReadonlyMap<string, string>): Header[] {
  const context: Context = {
    sources,
    headers: new Map(),
    open: new Set(),
    constants: new Map(),
    structs: new Map(),
    messages: new Map(),
  };
  for (const file of sources.keys()) {
    parseFile(context, file);
  }
  return [...context.headers.values()];
}

/** What is known across files. */
interface Context {
  sources: ReadonlyMap<string, string>;
  headers: Map<string, Header>;
  /** Files whose parsing has begun; guards against headers that include each other. */
  open: Set<string>;
  constants: Map<string, Constant>;
  structs: Map<string, Struct>;
  messages: Map<string, Message>;
}

function parseFile(context: Context, file: string): void {
  if (context.open.has(file)) {
    return;
  }
  context.open.add(file);
  const header = new HeaderParser(context, file).parse();
  context.headers.set(file, header);
}

class HeaderParser {
  private readonly context: Context;
  private readonly file: string;
  private readonly tokens: Token[];
  private at = 0;
  private readonly header: Header;
  /** The `#ifndef` lines that are open, by the name they ask for. */
  private readonly conditions: Token[] = [];
  /** Last line of the group that a constant or message on the next line would join. */
  private constantsEnd = -1;
  private messagesEnd = -1;

  constructor(context: Context, file: string) {
    this.context = context;
    this.file = file;
    this.tokens = scan(file, context.sources.get(file) ?? '');
    this.header = { file, constants: [], structs: [], messages: [] };
  }

  parse(): Header {
    let above: Token | undefined;
    for (;;) {
      const token = this.next();
      if (token.kind === 'end') {
        break;
      }
      if (token.kind === 'comment') {
        above = token.firstOnLine ? token : undefined;
        continue;
      }
      const comment = above !== undefined && above.endLine + 1 === token.line ? above : undefined;
      above = undefined;
      if (token.kind === 'directive') {
        this.directive(token, comment);
      } else if (token.text === 'struct') {
        this.struct(token, comment);
      } else if (token.text === '_Static_assert') {
        this.staticAssert(token);
      } else if (token.text === 'FLUX_MESSAGE') {
        this.message(token, comment);
      } else {
        this.fail(token.line, 'a #define, a struct, a _Static_assert or a FLUX_MESSAGE', token);
      }
    }
    const open = this.conditions.at(-1);
    if (open) {
      throw new AbiError(this.file, open.line, 'expected an #endif for this line');
    }
    return this.header;
  }

  private directive(token: Token, comment: Token | undefined): void {
    const [, word = '', rest = ''] = /^#\s*(\w*)\s*(.*)$/.exec(token.text) ?? [];
    if (word === 'include') {
      this.include(token, rest);
    } else if (word === 'define') {
      this.define(token, rest, comment);
    } else if (word === 'ifndef') {
      this.conditions.push({ ...token, text: rest });
    } else if (word === 'endif') {
      if (!this.conditions.pop()) {
        throw new AbiError(this.file, token.line, 'expected an #ifndef before this #endif');
      }
    } else {
      this.fail(token.line, '#include, #define, #ifndef or #endif', token);
    }
  }

  private include(token: Token, target: string): void {
    if (target === '<stdint.h>') {
      return;
    }
    const file = /^"(.+)"$/.exec(target)?.[1];
    if (file === undefined || !this.context.sources.has(file)) {
      const known = [...this.context.sources.keys()].join(', ');
      this.fail(token.line, `<stdint.h> or one of the headers ${known}`, { ...token, text: target });
    }
    parseFile(this.context, file);
  }

  private define(token: Token, rest: string, comment: Token | undefined): void {
    const [, name = '', args, value = ''] = /^(\w+)(\([^)]*\))?\s*(.*)$/.exec(rest) ?? [];
    const condition = this.conditions.at(-1);
    if (value === '' && condition !== undefined) {
      // An include guard, or the empty macros that hide the message lists from C.
      if (name === condition.text || (condition.text === 'FLUX_MESSAGE' && name === 'FLUX_FIELD')) {
        return;
      }
    }
    if (args !== undefined || !/^FLUX_[A-Z0-9_]+$/.test(name)) {
      this.fail(token.line, 'a constant with a name of the form FLUX_NAME', { ...token, text: rest });
    }
    const constant: Constant = {
      name,
      value: this.literal(token, name, value),
      literal: value,
      doc: this.trailingDoc(token),
      line: token.line,
    };
    this.register(this.context.constants, name, constant);
    this.constantsEnd = this.join(this.header.constants, constant, this.constantsEnd, token, comment);
  }

  private literal(token: Token, name: string, text: string): number | string {
    const string = /^"([^"\\]*)"$/.exec(text)?.[1];
    if (string !== undefined) {
      return string;
    }
    const value = /^(0|[1-9]\d*|0x[0-9a-f]+)$/.test(text) ? Number(text) : Number.NaN;
    if (!(value <= 0xffffffff)) {
      this.fail(token.line, `a number below 2^32 or a string as the value of ${name}`, { ...token, text });
    }
    return value;
  }

  private struct(token: Token, comment: Token | undefined): void {
    const name = this.fluxName('the name of a struct, flux_...');
    const doc = comment ? docLines(comment.text) : [];
    const tag = /^@(shared|plain)\b\s*/.exec(doc[0] ?? '');
    if (!tag) {
      throw new AbiError(
        this.file,
        token.line,
        `expected a comment that begins with @shared or @plain on the line above struct flux_${name}`,
      );
    }
    doc[0] = (doc[0] ?? '').slice(tag[0].length);
    const struct: Struct = {
      name,
      shared: tag[1] === 'shared',
      fields: [],
      size: 0,
      align: 1,
      doc: doc[0] === '' ? doc.slice(1) : doc,
      line: token.line,
    };
    this.expect('{', `after struct flux_${name}`);
    this.fields(struct);
    this.expect(';', `after struct flux_${name}`);
    if (struct.fields.length === 0) {
      throw new AbiError(this.file, token.line, `expected at least one field in struct flux_${name}`);
    }
    struct.size = roundUp(struct.size, struct.align);
    this.register(this.context.structs, name, struct);
    this.header.structs.push(struct);
  }

  private fields(struct: Struct): void {
    let above: Token | undefined;
    for (;;) {
      const token = this.next();
      if (token.kind === 'mark' && token.text === '}') {
        return;
      }
      if (token.kind === 'comment') {
        above = token.firstOnLine ? token : undefined;
        continue;
      }
      const comment = above !== undefined && above.endLine + 1 === token.line ? above : undefined;
      above = undefined;
      this.field(struct, token, comment);
    }
  }

  /** Lays a field out as the System V ABI does: each at the next multiple of its own alignment. */
  private field(struct: Struct, token: Token, comment: Token | undefined): void {
    const { type, size, align } = this.fieldType(struct, token);
    const name = this.name('the name of a field');
    if (struct.fields.some((other) => other.name === name)) {
      throw new AbiError(
        this.file,
        token.line,
        `expected a name that struct flux_${struct.name} has not yet: ${name}`,
      );
    }
    let count: number | undefined;
    if (this.peek().text === '[') {
      this.next();
      count = this.number(`the number of elements of ${name}`);
      this.expect(']', `after the number of elements of ${name}`);
      if (count === 0) {
        throw new AbiError(this.file, token.line, `expected at least one element in ${name}`);
      }
    }
    this.expect(';', `after the field ${name}`);
    const trailing = this.trailingDoc(this.last());
    const bytes = size * (count ?? 1);
    const offset = roundUp(struct.size, align);
    struct.fields.push({
      name,
      type,
      count,
      offset,
      size: bytes,
      doc: [...(comment ? docLines(comment.text) : []), ...trailing],
      line: token.line,
    });
    struct.size = offset + bytes;
    struct.align = Math.max(struct.align, align);
  }

  private fieldType(struct: Struct, token: Token): { type: Field['type']; size: number; align: number } {
    if (token.text === 'struct') {
      const name = this.fluxName('the name of a struct, flux_...');
      const inner = this.context.structs.get(name);
      if (!inner) {
        throw new AbiError(
          this.file,
          token.line,
          `expected a struct that is defined before, found flux_${name}`,
        );
      }
      if (inner.shared !== struct.shared) {
        // Atomics cannot be copied and plain words cannot be shared, so no language could hold both.
        throw new AbiError(
          this.file,
          token.line,
          `expected flux_${name} to have the tag of flux_${struct.name}`,
        );
      }
      return { type: { struct: name }, size: inner.size, align: inner.align };
    }
    const scalar = Object.hasOwn(SCALARS, token.text) ? SCALARS[token.text] : undefined;
    if (scalar === undefined) {
      this.fail(token.line, `a type (${Object.keys(SCALARS).join(', ')} or struct flux_...)`, token);
    }
    return { type: { scalar }, size: SCALAR_BYTES[scalar], align: SCALAR_BYTES[scalar] };
  }

  /** The C compiler checks these too; here they catch a difference between it and this parser. */
  private staticAssert(token: Token): void {
    const where = 'in _Static_assert(sizeof(struct flux_...) == bytes, "...")';
    this.expect('(', where);
    this.expect('sizeof', where);
    this.expect('(', where);
    this.expect('struct', where);
    const name = this.fluxName(`the name of a struct ${where}`);
    this.expect(')', where);
    this.expect('==', where);
    const bytes = this.number(`a number of bytes ${where}`);
    this.expect(',', where);
    if (this.next().kind !== 'string') {
      this.fail(this.last().line, `a string ${where}`, this.last());
    }
    this.expect(')', where);
    this.expect(';', where);
    const struct = this.context.structs.get(name);
    if (struct?.size !== bytes) {
      const found = struct === undefined ? 'no such struct' : `${struct.size}`;
      throw new AbiError(
        this.file,
        token.line,
        `expected struct flux_${name} to have ${bytes} bytes, found ${found}`,
      );
    }
  }

  private message(token: Token, comment: Token | undefined): void {
    this.expect('(', 'after FLUX_MESSAGE');
    const name = this.name('the name of a message');
    const message: Message = { name, fields: [], doc: [], line: token.line };
    while (this.peek().text === ',') {
      this.next();
      this.expect('FLUX_FIELD', `in message ${name}`);
      this.expect('(', 'after FLUX_FIELD');
      const type = this.wireType();
      this.expect(',', `after the type of a field of message ${name}`);
      const field = this.name('the name of a field');
      if (message.fields.some((other) => other.name === field)) {
        throw new AbiError(
          this.file,
          this.last().line,
          `expected a name that message ${name} has not yet: ${field}`,
        );
      }
      this.expect(')', `after the field ${field}`);
      message.fields.push({ name: field, type });
    }
    this.expect(')', `after message ${name}`);
    message.doc = this.trailingDoc(this.last());
    this.register(this.context.messages, name, message);
    const { messages } = this.header;
    this.messagesEnd = this.join(messages, message, this.messagesEnd, token, comment);
  }

  private wireType(): FieldType {
    const token = this.next();
    if (token.text === 'list') {
      this.expect('(', 'after list');
      const list = this.wireType();
      this.expect(')', 'after the type of a list');
      return { list };
    }
    const scalar = WIRE_SCALARS.find((name) => name === token.text);
    if (scalar !== undefined) {
      return { name: scalar };
    }
    if (!this.context.messages.has(token.text)) {
      this.fail(token.line, `${WIRE_SCALARS.join(', ')}, list(...) or a message defined before`, token);
    }
    return { message: token.text };
  }

  /** Adds to the last group if the item follows it without a gap or a comment between. Returns its end. */
  private join<T>(
    groups: Group<T>[],
    item: T,
    end: number,
    token: Token,
    comment: Token | undefined,
  ): number {
    const group = groups.at(-1);
    if (group !== undefined && token.line === end + 1 && comment === undefined) {
      group.items.push(item);
    } else {
      groups.push({ heading: comment ? docLines(comment.text) : [], items: [item] });
    }
    return this.last().endLine;
  }

  /** A comment that begins on the line where something ends speaks of that thing. */
  private trailingDoc(after: Token): Doc {
    const comment = this.tokens[this.at];
    if (comment?.kind !== 'comment' || comment.firstOnLine || comment.line !== after.endLine) {
      return [];
    }
    this.at += 1;
    return [docLines(comment.text).join(' ')];
  }

  private register<T>(
    known: Map<string, T & { line: number }>,
    name: string,
    value: T & { line: number },
  ): void {
    if (known.has(name)) {
      throw new AbiError(
        this.file,
        value.line,
        `expected a name that is not taken, found ${name} a second time`,
      );
    }
    known.set(name, value);
  }

  private next(): Token {
    const token = this.tokens[this.at] ?? this.last();
    this.at += 1;
    return token;
  }

  /** The next token that is not a comment; comments before it are skipped for good. */
  private peek(): Token {
    while (this.tokens[this.at]?.kind === 'comment') {
      this.at += 1;
    }
    return this.tokens[this.at] ?? this.last();
  }

  private last(): Token {
    const token = this.tokens[Math.min(this.at, this.tokens.length) - 1];
    if (token === undefined) {
      throw new Error('last() before the first token');
    }
    return token;
  }

  /** The error names the line of the token before, because that is where something is missing. */
  private expect(text: string, where: string): void {
    const { endLine } = this.last();
    const token = this.peek();
    if (token.kind === 'string' || token.text !== text) {
      this.fail(endLine, `\`${text}\` ${where}`, token);
    }
    this.next();
  }

  private name(what: string): string {
    const token = this.peek();
    if (token.kind !== 'name' || IMPOSSIBLE_NAMES.has(token.text)) {
      this.fail(token.line, what, token);
    }
    return this.next().text;
  }

  private fluxName(what: string): string {
    const name = this.name(what);
    if (!/^flux_[a-z]/.test(name)) {
      this.fail(this.last().line, what, this.last());
    }
    return name.slice('flux_'.length);
  }

  private number(what: string): number {
    const token = this.peek();
    this.next();
    const value =
      token.kind === 'number'
        ? this.literal(token, what, token.text)
        : this.context.constants.get(token.text)?.value;
    if (typeof value !== 'number') {
      this.fail(token.line, `${what}: a number or a constant defined before`, token);
    }
    return value;
  }

  private fail(line: number, expected: string, found: Token): never {
    const text = found.kind === 'end' ? found.text : `\`${found.text.split('\n')[0]}\``;
    throw new AbiError(this.file, line, `expected ${expected}, found ${text}`);
  }
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** The lines of a comment without its frame; empty lines at either end are dropped. */
function docLines(comment: string): string[] {
  const lines = comment
    .slice(2, -2)
    .split('\n')
    .map((line, index) => (index === 0 ? line : line.replace(/^\s*\* ?/, '')).trim());
  while (lines[0] === '') {
    lines.shift();
  }
  while (lines.at(-1) === '') {
    lines.pop();
  }
  return lines;
}
