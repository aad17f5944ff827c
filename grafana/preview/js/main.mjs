// Shows one dashboard as a page: its panels are drawn from the real results of their queries.

import { dateTimeFormat } from '@grafana/data';

import { barchart, heatmap, stateTimeline, timeseries } from './charts.mjs';
import { element } from './dom.mjs';
import { prepare } from './fields.mjs';
import { stat, table, text } from './tables.mjs';

const DRAWN = {
  barchart, heatmap, stat, table, text, timeseries, 'state-timeline': stateTimeline,
};

const page = JSON.parse(document.getElementById('page').textContent);
const { board } = page;

const place = ({ x, y, w, h }) => ({
  gridColumn: `${x + 1} / span ${w}`, gridRow: `${y + 1} / span ${h}`,
});

function frameOf(panel) {
  const body = element('div', { class: `body ${panel.type}` });
  const node = element('section', { class: 'panel', style: place(panel.gridPos) },
    element('h2', { title: panel.description ?? '' }, panel.title), body);
  return { node, body };
}

function drawPanel(grid, panel) {
  const { node, body } = frameOf(panel);
  // Add it to the page first, because charts read the size of their element.
  grid.append(node);
  const frames = panel.type === 'text' ? [] : prepare(panel, page.frames[panel.id], page);
  if (!DRAWN[panel.type](body, panel, frames, page)) {
    body.append(element('p', { class: 'nothing' }, panel.fieldConfig?.defaults.noValue ?? 'No data'));
  }
}

const at = (ms) => dateTimeFormat(ms, { timeZone: page.timezone, format: 'YYYY-MM-DD HH:mm' });

function header() {
  const chosen = page.variables.map(({ label, value }) => element('span', { class: 'variable' },
    element('b', {}, label), value));
  const links = Object.values(page.pages).map((name) => (
    element('a', { href: `${name}.html`, class: name === page.name ? 'here' : '' }, page.titles[name])
  ));
  return element('header', {},
    element('nav', {}, ...links),
    element('h1', { title: board.description }, board.title),
    element('div', { class: 'chosen' }, ...chosen,
      element('span', { class: 'range' }, `${at(page.from)} to ${at(page.to)}`)));
}

const grid = element('main');
document.body.append(header(), grid);
for (const panel of board.panels) {
  if (panel.type === 'row') {
    grid.append(element('h3', { style: place(panel.gridPos) }, panel.title));
  } else {
    drawPanel(grid, panel);
  }
}
