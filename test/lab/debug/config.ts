/** The kernel's configuration: whether Kconfig has kept what the fragment asks for. Pure. */

/** The lines of a configuration: CONFIG_X=y, and CONFIG_X=n for "# CONFIG_X is not set". */
export function parseConfig(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const set = /^(CONFIG_\w+)=(.*)$/.exec(line);
    const unset = /^# (CONFIG_\w+) is not set$/.exec(line);
    if (set) found.set(set[1], set[2]);
    else if (unset) found.set(unset[1], 'n');
  }
  return found;
}

/** What the fragment asks for and the configuration does not have. Kconfig drops such lines without a word. */
export function dropped(fragment: string, config: string): string[] {
  const has = parseConfig(config);
  return [...parseConfig(fragment)]
    .filter(([name, value]) => (has.get(name) ?? 'n') !== value)
    .map(([name, value]) => `${name}=${value} became ${has.get(name) ?? 'unknown or invisible'}`);
}
