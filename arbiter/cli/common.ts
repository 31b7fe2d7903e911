/** What several commands need. */
import type { Command } from 'commander';
import { Command as MakeCommand, InvalidArgumentError, Option } from 'commander';
import { ControlClient } from '../control/client.ts';

export const jsonOption = (): Option => new Option('--json', 'machine-readable output; errors too');

/** A subcommand that ends as the program does: by throwing. */
export function subcommand(name: string, description: string): Command {
  return new MakeCommand(name)
    .description(description)
    .addOption(jsonOption())
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
}

/** Does something with the daemon, and hangs up. */
export async function withDaemon<T>(work: (client: ControlClient) => Promise<T>): Promise<T> {
  const client = await ControlClient.connect();
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** An option's value as a whole number within bounds. */
export function integer(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value) || value < from || value > to) {
      throw new InvalidArgumentError(`Give a whole number from ${from} to ${to}.`);
    }
    return value;
  };
}

/** For options that may be given several times. */
export const collect = (value: string, all: string[]): string[] => [...all, value];
