/** Plots as inline SVG: a frame with axes, and lines or areas in it. Colours are classes of the page's style. */

const WIDTH = 560;
const HEIGHT = 300;
const LEFT = 72;
const RIGHT = 16;
const TOP = 14;
const BOTTOM = 40;

export const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

export interface Tick {
  readonly value: number;
  readonly label: string;
}

export interface Axis {
  readonly title: string;
  readonly ticks: readonly Tick[];
  /** To 0..1 along the axis. */
  readonly at: (value: number) => number;
}

export interface Line {
  readonly points: readonly (readonly [number, number])[];
  /** Number of its colour. */
  readonly series: number;
  readonly name: string;
  /** What is shown where the pointer rests on a point. */
  readonly tip?: (x: number, y: number) => string;
}

const spot = (n: number): string => n.toFixed(1);

/** `title` names it for those who cannot see it. */
export function frame(title: string, x: Axis, y: Axis, content: (px: Place, py: Place) => string): string {
  const px = (value: number): number => LEFT + x.at(value) * (WIDTH - LEFT - RIGHT);
  const py = (value: number): number => HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM);
  const parts = [
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escape(title)}">`,
    ...y.ticks.map(
      ({ value, label }) =>
        `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${spot(py(value))}" y2="${spot(py(value))}"/>` +
        `<text class="tick" x="${LEFT - 8}" y="${spot(py(value) + 4)}" text-anchor="end">${escape(label)}</text>`,
    ),
    ...x.ticks.map(
      ({ value, label }) =>
        `<line class="grid" x1="${spot(px(value))}" x2="${spot(px(value))}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>` +
        `<text class="tick" x="${spot(px(value))}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${escape(label)}</text>`,
    ),
    `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${HEIGHT - BOTTOM}" y2="${HEIGHT - BOTTOM}"/>`,
    content(px, py),
    `<text class="title" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${escape(x.title)}</text>`,
    `<text class="title" transform="rotate(-90)" x="${-(TOP + HEIGHT - BOTTOM) / 2}" y="13" text-anchor="middle">${escape(y.title)}</text>`,
    '</svg>',
  ];
  return parts.join('');
}

export type Place = (value: number) => number;

/** Lines, and a mark with a tip at each point that has one. */
export function lines(all: readonly Line[], px: Place, py: Place): string {
  const path = ({ points, series }: Line): string =>
    `<polyline class="line s${series}" points="${points.map(([x, y]) => `${spot(px(x))},${spot(py(y))}`).join(' ')}"/>`;
  const marks = ({ points, series, tip }: Line): string =>
    tip === undefined
      ? ''
      : points
          .map(
            ([x, y]) =>
              `<g class="mark"><circle class="s${series}" cx="${spot(px(x))}" cy="${spot(py(y))}" r="3.5"/>` +
              `<circle class="reach" cx="${spot(px(x))}" cy="${spot(py(y))}" r="10"><title>${escape(tip(x, y))}</title></circle></g>`,
          )
          .join('');
  return all.map(path).join('') + all.map(marks).join('');
}

/** Areas on top of one another; `layers` from the bottom. */
export function stack(
  xs: readonly number[],
  layers: readonly { values: readonly number[]; style: string; name: string }[],
  px: Place,
  py: Place,
): string {
  const base = xs.map(() => 0);
  return layers
    .map(({ values, style, name }) => {
      const from = base.map((v, i) => `${spot(px(xs[i]))},${spot(py(v))}`).reverse();
      values.forEach((v, i) => (base[i] += v));
      const to = base.map((v, i) => `${spot(px(xs[i]))},${spot(py(v))}`);
      return `<polygon class="${style}" points="${[...to, ...from].join(' ')}"><title>${escape(name)}</title></polygon>`;
    })
    .join('');
}

/** 1, 2 or 5 times a power of ten, about `n` of them up to `max`. */
export function evenTicks(max: number, n: number): Tick[] {
  const raw = max / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw) ?? raw;
  const ticks: Tick[] = [];
  for (let i = 0; i * step <= max * 1.0001; i++) {
    const value = i * step;
    ticks.push({ value, label: value.toLocaleString('en-US', { maximumFractionDigits: 6 }) });
  }
  return ticks;
}
