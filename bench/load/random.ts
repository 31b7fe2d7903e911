/**
 * Random numbers that can be had again: a schedule is a function of its seed, on
 * every machine and in every version of the runtime.
 *
 * The generator is sfc32 (Chris Doty-Humphrey's Small Fast Counting generator, in
 * the public domain): 128 bits of state, 32-bit operations only. Math.random cannot
 * be seeded, and its sequence is the engine's business.
 */

/** Uniform in (0, 1): never 0, so that its logarithm is finite. */
export type Random = () => number;

/** Spreads similar words into unlike ones (splitmix32), so that seeds 1 and 2 have nothing in common. */
function spread(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return (z ^ (z >>> 16)) | 0;
  };
}

/**
 * Streams of one seed are independent of each other: to draw more service times
 * leaves the arrivals as they were.
 */
export function random(seed: number, stream: number): Random {
  const seeds = spread(seed);
  let a = seeds();
  let b = seeds();
  let c = seeds() ^ Math.imul(stream + 1, 0x9e3779b1);
  let counter = 1;
  const next = (): number => {
    const word = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + word;
    return word >>> 0;
  };
  // The state is thin at first; the reference implementation throws this many away.
  for (let i = 0; i < 15; i++) next();
  return () => (next() + 0.5) / 4294967296;
}

/** Exponentially distributed with this mean. */
export const exponential = (draw: Random, mean: number): number => -Math.log(draw()) * mean;

/** Uniform in [mean - mean * spread, mean + mean * spread). */
export const around = (draw: Random, mean: number, spread: number): number =>
  mean * (1 + spread * (2 * draw() - 1));
