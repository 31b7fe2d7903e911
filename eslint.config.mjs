// @ts-check
import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/** Keeps data flowing one way: these folders may not import those.
 * @param {string} folder
 * @param {string[]} forbidden
 * @param {string} message
 * @returns {import('typescript-eslint').ConfigArray[number]} */
function boundary(folder, forbidden, message) {
  const group = forbidden.map((name) => `**/${name}/**`);
  return {
    files: [`arbiter/${folder}/**/*.ts`],
    ignores: ['**/*.test.ts'],
    rules: { 'no-restricted-imports': ['error', { patterns: [{ group, message }] }] },
  };
}

export default tseslint.config(
  { ignores: ['**/*.gen.ts', '**/target/**', '.build/**', 'native/build/**', 'coverage/**'] },
  js.configs.recommended,
  tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-empty': ['error', { allowEmptyCatch: false }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrorsIgnorePattern: '^_' },
      ],
      // Practical: an index into a typed array needs its `!`, a bridge may be async in name only, and `while (true)`
      // is what a protocol reader is.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/require-await': 'off',
      'no-constant-condition': ['error', { checkLoops: false }],
    },
  },
  boundary(
    'policy',
    ['loop', 'guard', 'bridge', 'vm', 'control', 'cli', 'observe', 'native'],
    'a policy knows nobody',
  ),
  boundary(
    'loop',
    ['vm', 'control', 'cli', 'observe', 'sim'],
    "the loop knows policies' types and a bridge's interface",
  ),
  boundary(
    'cli',
    ['loop', 'guard', 'vm'],
    'the command line talks to the daemon by the control protocol only',
  ),
  {
    files: ['**/*.test.ts'],
    rules: { '@typescript-eslint/unbound-method': 'off' },
  },
  {
    // Scripts are plain JavaScript: without types, and with Node's globals.
    files: ['**/*.mjs'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: {
      globals: {
        URL: 'readonly',
        console: 'readonly',
        process: 'readonly',
        Buffer: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        setInterval: 'readonly',
        clearInterval: 'readonly',
      },
    },
  },
);
