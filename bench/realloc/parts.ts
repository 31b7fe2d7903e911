/** Where the built programs are. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

function built(path: string): string {
  const full = fileURLToPath(new URL(`../../${path}`, import.meta.url));
  if (!existsSync(full)) throw new Error(`${path} is not built: run \`npm run setup\` first`);
  return full;
}

export const fluxionPath = (): string => built('vmm/target/release/fluxion');
export const imagePath = (): string => built('guest-libos/target/x86_64-unknown-linux-gnu/release/fluxos');
