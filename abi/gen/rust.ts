/**
 * Writes the Rust side: src/generated.rs and src/protocol.rs of the crate flux-abi.
 *
 * The text is what rustfmt would make of it, so formatting the crate changes
 * nothing and the check for stale files needs no rustfmt.
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
import type { Constant, Doc, Field, FieldType, Group, Header, Message, Scalar, Struct } from './parse.ts';

const WIDTH = 110;

/** Strict and reserved words of edition 2021 and of 2024, so that moving on will not break the crate. */
const KEYWORDS = new Set(
  (
    'abstract as async await become box break const continue do dyn else enum extern false final fn for gen if ' +
    'impl in let loop macro match mod move mut override priv pub ref return static struct trait true try type ' +
    'typeof unsafe unsized use virtual where while yield'
  ).split(' '),
);

export function rustLayout(headers: readonly Header[]): string {
  const constants = headers.flatMap((header) => header.constants.flatMap((group) => group.items));
  const structs = headers.flatMap((header) => header.structs);
  refuseDuplicates('generated.rs', [
    ...constants.map((constant) => unprefixed(constant.name)),
    ...structs.map((struct) => camelCase(struct.name)),
  ]);

  const atomics = new Set(
    structs
      .filter((struct) => struct.shared)
      .flatMap((struct) => struct.fields)
      .flatMap((field) => ('scalar' in field.type ? [atomic(field.type.scalar)] : [])),
  );
  const lines = [...notice()];
  if (structs.length > 0) {
    lines.push('use core::mem::{offset_of, size_of};');
  }
  if (atomics.size > 0) {
    // The order of edition 2021's style, which compares numbers in names letter by letter.
    const names = [...atomics].sort();
    const list = names.length === 1 ? names[0] : `{${names.join(', ')}}`;
    lines.push(`use core::sync::atomic::${list};`);
  }
  for (const header of headers) {
    if (header.constants.length + header.structs.length === 0) {
      continue;
    }
    lines.push('', `// ---- abi/${header.file} ----`);
    for (const group of header.constants) {
      lines.push('', ...constantGroup(group));
    }
    for (const struct of header.structs) {
      lines.push('', ...structDefinition(header.file, struct));
    }
  }
  return `${lines.join('\n')}\n`;
}

export function rustProtocol(headers: readonly Header[]): string {
  const messages = headers.flatMap((header) => header.messages.flatMap((group) => group.items));
  refuseDuplicates(
    'protocol.rs',
    messages.map((message) => camelCase(message.name)),
  );
  const types = messages.flatMap((message) => message.fields.map((field) => rustWireType(field.type)));
  const lines = [
    ...notice(),
    '//! The messages of the VMM protocol; abi/protocol.h says how they are framed.',
    '',
    ...(types.some((type) => /\bString\b/.test(type)) ? ['use alloc::string::String;'] : []),
    ...(types.some((type) => /\bVec</.test(type)) ? ['use alloc::vec::Vec;'] : []),
    'use serde::{Deserialize, Serialize};',
  ];
  for (const header of headers) {
    for (const group of header.messages) {
      const { heading, items } = headingAndDocs(group);
      if (heading.length > 0) {
        lines.push('', ...comment('//', heading, 0));
      }
      for (const message of items) {
        lines.push('', ...messageDefinition(message));
      }
    }
  }
  lines.push('', '/// The values of the field `op`: messages that have a reply.', 'pub mod op {');
  for (const name of operations(headers)) {
    lines.push(`    pub const ${name.toUpperCase()}: &str = "${name}";`);
  }
  lines.push('}');
  return `${lines.join('\n')}\n`;
}

function notice(): string[] {
  return [SPDX, ...NOTICE].map((line) => `// ${line}`).concat('');
}

function constantGroup(group: Group<Constant>): string[] {
  const { heading, items } = headingAndDocs(group);
  const lines = comment('//', heading, 0);
  for (const constant of items) {
    const { name, value, literal, doc } = constant;
    lines.push(
      ...comment('///', doc, 0),
      `pub const ${unprefixed(name)}: ${constantType(name, value)} = ${literal};`,
    );
  }
  return lines;
}

/** Sizes and places are usize, because Rust indexes with it; a port is what `out` takes. */
function constantType(name: string, value: number | string): string {
  if (typeof value === 'string') {
    return '&str';
  }
  if (/_(OFFSET|BYTES|LINES?|ENTRIES)$/.test(name) || name.startsWith('FLUX_MAX_')) {
    return 'usize';
  }
  return name.startsWith('FLUX_PORT_') ? 'u16' : 'u32';
}

function structDefinition(file: string, struct: Struct): string[] {
  const name = camelCase(struct.name);
  const lines = comment('///', [...struct.doc, ...(struct.doc.length > 0 ? [''] : [])], 0);
  lines.push(`/// \`struct flux_${struct.name}\` of abi/${file}, ${struct.size} bytes.`);
  if (!struct.shared) {
    lines.push('#[derive(Clone, Copy)]');
  }
  lines.push('#[repr(C)]', `pub struct ${name} {`);
  for (const field of struct.fields) {
    lines.push(
      ...comment('///', field.doc, 4),
      `    pub ${identifier(field.name)}: ${fieldType(struct, field)},`,
    );
  }
  lines.push('}', '', 'const _: () = {', `    assert!(size_of::<${name}>() == ${struct.size});`);
  for (const field of struct.fields) {
    lines.push(`    assert!(offset_of!(${name}, ${identifier(field.name)}) == ${field.offset});`);
  }
  lines.push('};');
  return lines;
}

function fieldType(struct: Struct, field: Field): string {
  const type =
    'struct' in field.type ? camelCase(field.type.struct) : scalarType(struct.shared, field.type.scalar);
  return field.count === undefined ? type : `[${type}; ${field.count}]`;
}

function scalarType(shared: boolean, scalar: Scalar): string {
  return shared ? atomic(scalar) : scalar === 'char' ? 'u8' : scalar;
}

function atomic(scalar: Scalar): string {
  return `AtomicU${scalar === 'char' ? '8' : scalar.slice(1)}`;
}

function messageDefinition(message: Message): string[] {
  const lines = [
    ...comment('///', message.doc, 0),
    '#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]',
    `pub struct ${camelCase(message.name)} {`,
  ];
  if (message.fields.length === 0) {
    return [...lines.slice(0, -1), `pub struct ${camelCase(message.name)} {}`];
  }
  for (const field of message.fields) {
    lines.push(`    pub ${identifier(field.name)}: ${rustWireType(field.type)},`);
  }
  return [...lines, '}'];
}

function rustWireType(type: FieldType): string {
  if ('list' in type) {
    return `Vec<${rustWireType(type.list)}>`;
  }
  if ('message' in type) {
    return camelCase(type.message);
  }
  return type.name === 'string' ? 'String' : type.name;
}

/** A raw identifier is the same name to serde and to offset_of!, so nothing else has to know. */
function identifier(name: string): string {
  return KEYWORDS.has(name) ? `r#${name}` : name;
}

function comment(sign: '//' | '///', doc: Doc, indent: number): string[] {
  const margin = ' '.repeat(indent);
  return wrap(markdown(doc), WIDTH - indent - sign.length - 1).map((line) =>
    `${margin}${sign} ${line}`.trimEnd(),
  );
}
