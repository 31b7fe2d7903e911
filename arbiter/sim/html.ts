/**
 * The comparison as a page: one file that needs nothing else, for a browser, a mail or
 * a report. Light and dark as the reader has it.
 */
import { figure } from '../../bench/lib/table.ts';
import { logTimes, nines, shares } from './plot/axes.ts';
import type { Axis, Line } from './plot/svg.ts';
import { escape, evenTicks, frame, lines, stack } from './plot/svg.ts';
import { coreHours, describeScenario, held, percent, percentiles, wholeOf } from './report.ts';
import type { GroupResult, SimResult } from './run.ts';
import type { Scenario } from './scenario.ts';

const STYLE = `
:root{color-scheme:light dark;--bg:#fcfcfb;--card:#ffffff;--ink:#1b1b19;--soft:#5f5e58;--rule:#e4e3dd;--grid:#ecebe6;
--c0:#2a78d6;--c1:#eb6834;--c2:#1baf7a;--c3:#b07900;--c4:#d55c94;--c5:#7a5bd0;--best:#e6f4ec}
@media(prefers-color-scheme:dark){:root{--bg:#161615;--card:#1e1e1c;--ink:#f2f1ec;--soft:#a9a79e;--rule:#34332f;--grid:#2a2926;
--c0:#4a94ea;--c1:#e8733f;--c2:#22a87a;--c3:#d19a1e;--c4:#dd6f9f;--c5:#9a80e8;--best:#1d3428}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1220px;margin:0 auto;padding:36px 24px 56px}h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;margin:40px 0 4px}p{margin:0 0 8px;max-width:78ch}.soft{color:var(--soft)}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px;margin-top:12px}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 14px 10px}
figcaption{font-weight:600;margin:0 0 6px 4px}figcaption small{font-weight:400;color:var(--soft)}svg{display:block;width:100%;height:auto}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:14px 0 0;padding:0;list-style:none}
.legend i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:7px;vertical-align:-1px}
.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}.tick{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
.title{fill:var(--soft);font-size:12px}.line{fill:none;stroke-width:2;stroke-linejoin:round}.reach{fill:transparent}
.mark circle:first-child{stroke:var(--card);stroke-width:1.5}.mark:hover circle:first-child{stroke:var(--ink)}
.cap{stroke:var(--soft);stroke-dasharray:4 4}.dim{fill-opacity:.32}
.scroll{overflow-x:auto;margin-top:12px;background:var(--card);border:1px solid var(--rule);border-radius:10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--rule)}thead th{border-top:0;color:var(--soft);font-weight:500;font-size:13px}
th:first-child,td:first-child,.name{text-align:left}tr.more td{border-top:0}td.best{background:var(--best)}td.bad{font-weight:600}
footer{margin-top:40px;color:var(--soft);font-size:13px}
${[0, 1, 2, 3, 4, 5].map((i) => `.line.s${i}{stroke:var(--c${i})}circle.s${i},polygon.s${i}{fill:var(--c${i})}i.s${i}{background:var(--c${i})}`).join('')}
`;

/** Colours repeat after six; more lines than that nobody reads anyway. */
const COLOURS = 6;
const colour = (i: number): number => i % COLOURS;
/** Groups of VMs begin elsewhere, so that they are not taken for policies. */
const groupColour = (i: number): number => colour(i + 2);
const MARKS = [0.5, 0.9, 0.99, 0.999, 0.9999];

const groupOf = (result: SimResult, name: string): GroupResult =>
  result.groups.find((group) => group.name === name)!;
const vmsText = (n: number): string => (n === 1 ? '1 VM' : `${n.toLocaleString('en-US')} VMs`);
const kind = (group: GroupResult): string =>
  `${vmsText(group.vms)}, ${group.class === 'lc' ? 'latency-critical' : 'best-effort'}`;

function latencyFigure(name: string, results: readonly SimResult[]): string {
  const groups = results.map((result) => groupOf(result, name));
  const counted = groups.filter(({ latency }) => latency.n > 0);
  const n = Math.max(...counted.map(({ latency }) => latency.n));
  const value = (group: GroupResult, share: number): number => (group.latency.at(share) ?? 0) / 1000;
  const x = nines(n);
  const low = Math.min(...counted.map((group) => value(group, 0.1)));
  const high = Math.max(...counted.map((group) => value(group, 1 - 10 ** -Math.min(5, Math.log10(n)))));
  const y = logTimes('latency', low, high);
  const curves: Line[] = groups.map((group, i) => ({
    series: colour(i),
    name: results[i].policy,
    points: shares(group.latency.n).map((share) => [share, value(group, share)] as const),
  }));
  const marks: Line[] = groups.map((group, i) => ({
    series: colour(i),
    name: results[i].policy,
    points: MARKS.filter((share) => 1 / (1 - share) <= group.latency.n).map(
      (share) => [share, value(group, share)] as const,
    ),
    tip: (share, us) => `${results[i].policy}: p${Number((share * 100).toFixed(3))} ${figure(us)} µs`,
  }));
  const plot = frame(`latency percentiles of ${name}`, x, y, (px, py) => {
    const drawn = lines(
      curves.filter((_, i) => groups[i].latency.n > 0),
      px,
      py,
    );
    return drawn + lines(marks, px, py).replaceAll(/<polyline[^>]*>/g, '');
  });
  return `<figure><figcaption>${escape(name)} <small>${kind(groups[0])}</small></figcaption>${plot}</figure>`;
}

function coresFigure(result: SimResult, most: number): string {
  const { groups, cores, seconds, policy } = result;
  const points = groups[0].coresHeld.length;
  const scale = seconds < 2 ? 1000 : 1;
  const times = Array.from({ length: points }, (_, i) => ((i + 0.5) / points) * seconds * scale);
  const x: Axis = {
    title: `time, ${scale === 1000 ? 'ms' : 's'}`,
    ticks: evenTicks(seconds * scale, 6),
    at: (value) => value / (seconds * scale),
  };
  const y: Axis = { title: 'cores', ticks: evenTicks(most, 4), at: (value) => Math.min(1, value / most) };
  const layers = groups.flatMap((group, i) => [
    { values: group.coresUseful, style: `s${groupColour(i)}`, name: `${group.name}: useful` },
    {
      values: group.coresHeld.map((held, point) => Math.max(0, held - group.coresUseful[point])),
      style: `s${groupColour(i)} dim`,
      name: `${group.name}: held, not useful`,
    },
  ]);
  const plot = frame(`cores over time under ${policy}`, x, y, (px, py) => {
    const at = py(cores).toFixed(1);
    return (
      stack(times, layers, px, py) +
      `<line class="cap" x1="${px(0)}" x2="${px(seconds * scale)}" y1="${at}" y2="${at}"><title>${cores} cores</title></line>`
    );
  });
  return `<figure><figcaption>${escape(policy)}</figcaption>${plot}</figure>`;
}

interface Cell {
  text: string;
  /** For comparing; undefined: not compared. */
  value?: number;
}

/** The first column of numbers stands behind the policy's name, where the head says `policy` second. */
function table(
  head: readonly string[],
  blocks: readonly { name: string; rows: readonly (readonly Cell[])[] }[],
): string {
  const body = blocks.flatMap(({ name, rows }) => {
    const best = rows[0].map((_, column) => Math.min(...rows.map((row) => row[column].value ?? Infinity)));
    return rows.map((row, i) => {
      const cells = row.map(({ text, value }, column) => {
        const tied = rows.every((other) => other[column].value === value);
        const mark = value !== undefined && value === best[column] && rows.length > 1 && !tied;
        return `<td class="${head[column + 1] === 'policy' ? 'name' : ''}${mark ? ' best' : ''}">${escape(text)}</td>`;
      });
      return `<tr${i === 0 ? '' : ' class="more"'}><td>${i === 0 ? escape(name) : ''}</td>${cells.join('')}</tr>`;
    });
  });
  const titles = head
    .map((text) => `<th${text === 'policy' ? ' class="name"' : ''}>${escape(text)}</th>`)
    .join('');
  return `<div class="scroll"><table><thead><tr>${titles}</tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

const compared = (value: number | null): Cell =>
  value === null ? { text: 'none' } : { text: figure(value >= 100 ? Math.round(value) : value), value };
const plain = (text: string): Cell => ({ text });

function latencyTable(names: readonly string[], results: readonly SimResult[]): string {
  const blocks = names.map((name) => ({
    name,
    rows: results.map((result) => {
      const group = groupOf(result, name);
      const { p50, p90, p99, p999, max } = percentiles(group.latency);
      const numbers = [p50, p90, p99, p999, max, group.unfinished].map(compared);
      return [plain(result.policy), plain(figure(group.arrived)), ...numbers];
    }),
  }));
  return table(
    ['latency, µs', 'policy', 'requests', 'p50', 'p90', 'p99', 'p99.9', 'max', 'unfinished'],
    blocks,
  );
}

function coresTable(results: readonly SimResult[]): string {
  const blocks = results[0].groups.map(({ name }) => ({
    name,
    rows: results.map((result) => {
      const group = groupOf(result, name);
      const { useful, spinning, arriving } = group.coreTime;
      const numbers = [held(group), useful, spinning, arriving].map((s) => plain(figure(s / result.seconds)));
      return [plain(result.policy), ...numbers, plain(coreHours(held(group)))];
    }),
  }));
  return table(['cores, mean', 'policy', 'held', 'useful', 'spinning', 'arriving', 'core-hours'], blocks);
}

function hostTable(results: readonly SimResult[]): string {
  const rows = results.map((result) => {
    const whole = wholeOf(result);
    const { granted, moved, inherited } = result.handovers;
    const rates = [whole.movesPerSecond, ...[granted, moved, inherited].map((n) => n / result.seconds)];
    return [
      plain(result.policy),
      plain(coreHours(whole.coreSeconds)),
      ...[whole.coreSeconds / (result.cores * result.seconds), whole.usefulShare, whole.spinningShare].map(
        (share) => plain(percent(share)),
      ),
      ...rates.map((rate) => plain(figure(rate >= 100 ? Math.round(rate) : rate))),
      plain(figure(whole.turnUs)),
    ];
  });
  const head = [
    'core-hours',
    'of the host',
    'useful',
    'spinning',
    'moves/s',
    'granted',
    'decided',
    'inherited',
    'turn, µs',
  ];
  return table(
    ['policy', ...head],
    rows.map(([{ text }, ...rest]) => ({ name: text, rows: [rest] })),
  );
}

const legend = (names: readonly string[], of: (i: number) => number): string =>
  `<ul class="legend">${names.map((name, i) => `<li><i class="s${of(i)}"></i>${escape(name)}</li>`).join('')}</ul>`;

export function page(scenario: Scenario, results: readonly SimResult[]): string {
  const { groups, machine, cores } = results[0];
  const serving = groups
    .filter(({ name }) => results.some((result) => groupOf(result, name).latency.n > 0))
    .map(({ name }) => name);
  const most = cores * 1.04;
  const latency =
    serving.length === 0
      ? ''
      : `<h2>Latency</h2><p class="soft">From the scheduled arrival to the end of the request. Lower is better; the right end is the tail.</p>
${legend(
  results.map(({ policy }) => policy),
  colour,
)}<div class="row">${serving.map((name) => latencyFigure(name, results)).join('')}</div>
${latencyTable(serving, results)}`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(scenario.name)}: policies compared</title><style>${STYLE}</style></head><body><main>
<h1>${escape(scenario.name)}</h1>
<p>${escape(describeScenario(scenario, results).replace(`${scenario.name}: `, ''))}. ${results.length === 1 ? 'One policy' : `${results.length} policies`}, the same requests${results.length === 1 ? '' : ' to each'}.</p>
<p class="soft">Simulated: loop, guard and policies are the code that the arbiter runs; hosts and guests are modelled. Times of moves: ${escape(machine)}.</p>
${latency}
<h2>Cores over time</h2><p class="soft">Held by each group of VMs; the paler part is spun on or still arriving. The dashed line is the host.</p>
${legend(
  groups.map(({ name }) => name),
  groupColour,
)}<div class="row">${results.map((result) => coresFigure(result, most)).join('')}</div>
${coresTable(results)}
<h2>The host</h2>${hostTable(results)}
<footer>Written by hyperflux policy sim. A simulation shows differences between policies; what a machine does, only a run on it shows.</footer>
</main></body></html>
`;
}
