/**
 * V8's flags for the process that runs the loop. The loop is many small functions,
 * and V8 stops inlining after a fixed amount, in an order that differs from run to
 * run; with these, a turn becomes one or two pieces of code. Measured by `hyperflux
 * bench loop`: turns that decide take a quarter less, and the same each time.
 */
export const LOOP_FLAGS: readonly string[] = [
  '--min-inlining-frequency=0.01',
  '--max-inlined-bytecode-size=2000',
  '--max-inlined-bytecode-size-cumulative=20000',
  '--max-inlined-bytecode-size-absolute=30000',
];
