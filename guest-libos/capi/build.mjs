#!/usr/bin/env node
// @ts-check
// Builds both archives and links C programs with them.
// Usage: node guest-libos/capi/build.mjs                        archives, conformance/ and dying/
//        node guest-libos/capi/build.mjs kvm|hosted OUT FILE.c...  one program of your own
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { argv, exit } from 'node:process';
import { fileURLToPath } from 'node:url';
import { toolEnv } from '../../scripts/lib/env.mjs';

const capi = dirname(fileURLToPath(import.meta.url));
const guest = dirname(capi);
const target = join(guest, 'target');
const release = join(target, 'x86_64-unknown-linux-gnu/release');

/** The same for both kinds: no C library, and a uThread's registers may be saved at any instruction.
 * No red zone, as FluxOS's own code: exceptions may come upon the interrupted stack. */
const compile = [
  ...['-std=c11', '-O2', '-g', '-Wall', '-Wextra', '-Werror'],
  ...['-ffreestanding', '-nostdinc', '-fno-pie', '-mno-red-zone', '-fno-omit-frame-pointer'],
  ...['-fno-stack-protector', '-fcf-protection=none', '-fno-asynchronous-unwind-tables'],
];

/** @typedef {'kvm' | 'hosted'} Kind */

/** @type {Record<Kind, { define: string[], archive: string, link: string[], libraries: string[] }>} */
const kinds = {
  kvm: {
    define: ['-DFLUX_KVM', '-ftls-model=local-exec'],
    archive: join(release, 'libfluxos.a'),
    link: [
      ...['-nostdlib', '-nostartfiles', '-static', '-no-pie', `-Wl,-T,${join(capi, 'kvm/link.ld')}`],
      ...['-Wl,--build-id=none', '-Wl,-z,max-page-size=4096', '-Wl,-z,separate-code', '-Wl,-z,noexecstack'],
      '-Wl,--gc-sections',
    ],
    libraries: [],
  },
  hosted: {
    define: ['-DFLUX_HOSTED'],
    archive: join(release, 'libfluxos_hosted.a'),
    link: ['-no-pie', '-Wl,--wrap=main', '-Wl,--gc-sections'],
    libraries: ['-lgcc_s', '-lutil', '-lrt', '-lpthread', '-lm', '-ldl', '-lc'],
  },
};

/** @param {string} command
 * @param {string[]} args
 * @param {string} cwd */
function run(command, args, cwd) {
  const { status, error } = spawnSync(command, args, { cwd, env: toolEnv(), stdio: 'inherit' });
  if (status === 0) return;
  console.error(`failed: ${command} ${args.join(' ')}${error ? `: ${error.message}` : ''}`);
  exit(1);
}

/** What gcc brings itself: stddef.h and the like. */
function compilerHeaders() {
  const { stdout, status } = spawnSync('cc', ['-print-file-name=include'], { encoding: 'utf8' });
  if (status !== 0) {
    console.error('cc does not say where its headers are; install gcc');
    exit(1);
  }
  return stdout.trim();
}

/** @param {Kind} kind
 * @param {string} out
 * @param {string[]} sources */
function program(kind, out, sources) {
  const { define, archive, link, libraries } = kinds[kind];
  const headers = ['-I', join(guest, 'include'), '-isystem', compilerHeaders()];
  mkdirSync(dirname(out), { recursive: true });
  run(
    'cc',
    [...compile, ...define, ...headers, '-o', out, ...sources, archive, ...link, ...libraries],
    guest,
  );
}

function archives() {
  const cargo = ['build', '--release', '--locked', '--target', 'x86_64-unknown-linux-gnu', '-p'];
  run('cargo', [...cargo, 'capi-kvm'], guest);
  run('cargo', [...cargo, 'capi-hosted'], join(guest, 'hosted'));
}

const [kind, out, ...sources] = argv.slice(2);
if (kind === undefined) {
  archives();
  for (const folder of ['conformance', 'dying'].map((name) => join(capi, name)))
    for (const file of readdirSync(folder).filter((name) => name.endsWith('.c'))) {
      const name = basename(file, '.c');
      for (const each of /** @type {Kind[]} */ (Object.keys(kinds)))
        program(each, join(target, 'capi', each, name), [join(folder, file)]);
    }
} else if ((kind === 'kvm' || kind === 'hosted') && out && sources.length > 0) {
  archives();
  program(kind, out, sources);
} else {
  console.error('usage: node guest-libos/capi/build.mjs [kvm|hosted OUT FILE.c...]');
  exit(2);
}
