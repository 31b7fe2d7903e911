/** Runs the command line as a user does, in a run directory of its own. */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../arbiter/cli/main.ts', import.meta.url));

export interface Ended {
  code: number | null;
  out: string;
  err: string;
}

export class Cli {
  readonly dir = mkdtempSync(join(tmpdir(), 'hf-cli-'));

  run(...args: string[]): Promise<Ended> {
    return new Promise((resolve, reject) => {
      const env = { ...process.env, HYPERFLUX_RUN: this.dir, NODE_OPTIONS: '' };
      const child = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      let out = '';
      let err = '';
      child.stdout.on('data', (data: Buffer) => (out += data.toString()));
      child.stderr.on('data', (data: Buffer) => (err += data.toString()));
      child.on('error', reject);
      child.on('close', (code) => resolve({ code, out, err }));
    });
  }

  /** What a command printed with --json. */
  async json(...args: string[]): Promise<Record<string, unknown>> {
    const { code, out, err } = await this.run(...args, '--json');
    if (code !== 0) throw new Error(`hyperflux ${args.join(' ')} ended with ${code}: ${err}`);
    return JSON.parse(out) as Record<string, unknown>;
  }

  /** The error that a command reported with --json, and its exit code. */
  async error(
    ...args: string[]
  ): Promise<{ code: number | null; error: { code: string; message: string; hint: string } }> {
    const { code, err } = await this.run(...args, '--json');
    return {
      code,
      error: (JSON.parse(err) as { error: { code: string; message: string; hint: string } }).error,
    };
  }

  async end(): Promise<void> {
    if (existsSync(join(this.dir, 'control.sock'))) await this.run('stop', '--all', '--daemon');
    rmSync(this.dir, { recursive: true, force: true });
  }
}
