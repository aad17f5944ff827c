// Prepares frames with Grafana's own code, which applies units, colours, thresholds and overrides.

import {
  applyFieldOverrides, createTheme, formattedValueToString, getFieldDisplayName, Registry,
  toDataFrame,
} from '@grafana/data';

export const theme = createTheme({ colors: { mode: 'dark' } });

/** The field options that the dashboards use; in Grafana, the panels register them. */
function registryOf({ defaults, overrides }) {
  const ids = new Set([
    ...Object.keys(defaults),
    ...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`),
    ...overrides.flatMap(({ properties }) => properties.map(({ id }) => id)),
  ]);
  ids.delete('custom');
  return new Registry(() => [...ids].map((id) => ({
    id,
    name: id,
    path: id.replace(/^custom\./, ''),
    isCustom: id.startsWith('custom.'),
    process: (value) => value,
    shouldApply: () => true,
  })));
}

/** Returns a panel's frames, each field with its options and its `display`. */
export function prepare({ fieldConfig }, frames, { timezone }) {
  const data = applyFieldOverrides({
    data: frames.map((frame) => toDataFrame(frame)),
    fieldConfig,
    replaceVariables: (text) => text,
    theme,
    fieldConfigRegistry: registryOf(fieldConfig),
    timeZone: timezone,
  });
  for (const frame of data) {
    for (const field of frame.fields) field.title = getFieldDisplayName(field, frame, data);
  }
  return data;
}

export const textOf = (field, value) => formattedValueToString(field.display(value));
export const colorOf = (field, value) => field.display(value).color ?? theme.colors.text.primary;

/** Returns the fields that are drawn, without the time field. */
export const numbers = (frames) => frames.flatMap(({ fields }) => (
  fields.filter(({ type, config }) => type === 'number' && !config.custom?.hideFrom?.viz)
));
