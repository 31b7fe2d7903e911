/**
 * Cuts a header into tokens that know their line.
 *
 * Comments are tokens too, because they carry the tags of structs and become the
 * documentation of what is generated. A preprocessor line is one token, because its
 * end is the end of the line and nothing else in the dialect has that property.
 */

/** A mistake in a header, told the way compilers tell it, so that editors find the place. */
export class AbiError extends Error {
  readonly file: string;
  readonly line: number;

  constructor(file: string, line: number, message: string) {
    super(`${file}:${line}: ${message}`);
    this.name = 'AbiError';
    this.file = file;
    this.line = line;
  }
}

export type TokenKind = 'comment' | 'directive' | 'name' | 'number' | 'string' | 'mark' | 'end';

export interface Token {
  kind: TokenKind;
  /** For a string without its quotes, for a comment as it stands, for a directive from the `#` on. */
  text: string;
  line: number;
  endLine: number;
  /** False if something stands before it on its line: such a comment belongs to what is before it. */
  firstOnLine: boolean;
}

const PATTERNS: readonly [TokenKind, RegExp][] = [
  ['comment', /\/\*[^]*?\*\//y],
  ['name', /[A-Za-z_]\w*/y],
  ['number', /\d\w*/y],
  ['string', /"[^"\\\n]*"/y],
  ['mark', /==|[{}()[\];,]/y],
];

/** The rest of a preprocessor line, up to a comment; a quoted part may contain anything but a quote. */
const DIRECTIVE = /#(?:"[^"\n]*"|\/(?!\*)|[^"/\n])*/y;

export function scan(file: string, text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let firstOnLine = true;
  let at = 0;

  while (at < text.length) {
    const char = text.charAt(at);
    if (char === '\n') {
      line += 1;
      firstOnLine = true;
      at += 1;
      continue;
    }
    if (/\s/.test(char)) {
      at += 1;
      continue;
    }
    const [kind, raw] = match(file, text, at, line, firstOnLine);
    const endLine = line + raw.split('\n').length - 1;
    const value = kind === 'string' ? raw.slice(1, -1) : raw.trimEnd();
    tokens.push({ kind, text: value, line, endLine, firstOnLine });
    line = endLine;
    firstOnLine = false;
    at += raw.length;
  }
  tokens.push({ kind: 'end', text: 'the end of the file', line, endLine: line, firstOnLine: true });
  return tokens;
}

function match(
  file: string,
  text: string,
  at: number,
  line: number,
  firstOnLine: boolean,
): [TokenKind, string] {
  if (text.charAt(at) === '#' && firstOnLine) {
    DIRECTIVE.lastIndex = at;
    const raw = DIRECTIVE.exec(text)?.[0] ?? '#';
    if (raw.trimEnd().endsWith('\\')) {
      throw new AbiError(file, line, 'expected a preprocessor line without continuation');
    }
    return ['directive', raw];
  }
  for (const [kind, pattern] of PATTERNS) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) {
      return [kind, found[0]];
    }
  }
  const rest = text.slice(at, at + 12).split('\n')[0];
  const expected = rest?.startsWith('/')
    ? 'a comment of the form /* ... */ that is closed'
    : 'a name, a number, a string without escapes, or one of { } ( ) [ ] ; , ==';
  throw new AbiError(file, line, `expected ${expected}, found \`${rest}\``);
}
