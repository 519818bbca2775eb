// SPDX-FileCopyrightText: The Larder Authors
//
// SPDX-License-Identifier: Apache-2.0

// The page that Chromium takes a picture of: a dashboard of Plutono, drawn by Perses from the same queries.

import React from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router-dom';
import { QueryParamProvider } from 'use-query-params';
import { ReactRouter6Adapter } from 'use-query-params/adapters/react-router-6';
import { CssBaseline, ThemeProvider } from '@mui/material';
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { ChartsProvider, SnackbarProvider, TimeZoneProvider, generateChartsTheme, getTheme } from '@perses-dev/components';
import { PluginRegistry, ValidationProvider, dynamicImportPluginLoader } from '@perses-dev/plugin-system';
import { ViewDashboard } from '@perses-dev/dashboards';
import * as prometheus from '@perses-dev/prometheus-plugin';
import * as timeSeriesChart from '@perses-dev/timeseries-chart-plugin';
import * as statChart from '@perses-dev/stat-chart-plugin';
import * as table from '@perses-dev/table-plugin';

const formats = {
  Bps: { unit: 'bytes/sec' },
  bytes: { unit: 'bytes', decimalPlaces: 1 },
  // Perses has no unit for the time from now, so the query is changed to return it in seconds.
  dateTimeFromNow: { unit: 'seconds', decimalPlaces: 1 },
  ops: { unit: 'ops/sec' },
  percentunit: { unit: 'percent-decimal', decimalPlaces: 1 },
  reqps: { unit: 'requests/sec' },
  s: { unit: 'seconds', decimalPlaces: 1 },
};

function plugin(panel, format) {
  switch (panel.type) {
  case 'stat':
    return { kind: 'StatChart', spec: { calculation: 'last-number', format, valueFontSize: 28 } };
  case 'table':
    return {
      kind: 'Table',
      spec: {
        density: 'compact',
        columnSettings: [
          { name: 'timestamp', hide: true },
          { name: 'upstream_host', header: 'Cache' },
          { name: 'repository', header: 'Repository' },
          { name: 'value', header: 'Value', format, sort: 'desc' },
        ],
      },
    };
  default:
    return {
      kind: 'TimeSeriesChart',
      spec: { legend: { position: 'bottom', mode: 'list', size: 'small' }, yAxis: { format, min: 0 } },
    };
  }
}

function convertPanel(panel) {
  const unit = panel.fieldConfig?.defaults?.unit;
  const queries = panel.targets.map(({ expr, legendFormat }) => ({
    kind: 'TimeSeriesQuery',
    spec: {
      plugin: {
        kind: 'PrometheusTimeSeriesQuery',
        spec: {
          query: unit === 'dateTimeFromNow' ? `abs((${expr}) / 1000 - time())` : expr,
          seriesNameFormat: legendFormat,
        },
      },
    },
  }));
  const format = formats[unit] ?? { unit: 'decimal' };
  return {
    kind: 'Panel',
    spec: { display: { name: panel.title, description: panel.description }, plugin: plugin(panel, format), queries },
  };
}

function convertVariable({ name, label, definition }) {
  const [, matcher, labelName] = /^label_values\((.*), *(\w+)\)$/.exec(definition);
  return {
    kind: 'ListVariable',
    spec: {
      name, display: { name: label }, allowMultiple: true, allowAllValue: true, customAllValue: '.+', defaultValue: '$__all',
      plugin: { kind: 'PrometheusLabelValuesVariable', spec: { labelName, matchers: [matcher] } },
    },
  };
}

function convert({ title, panels: all, templating }) {
  const panels = {};
  const layouts = [];
  let top = 0;
  for (const panel of all) {
    const { x, y, w, h } = panel.gridPos;
    if (panel.type === 'row') {
      layouts.push({ kind: 'Grid', spec: { display: { title: panel.title, collapse: { open: true } }, items: [] } });
      top = y + 1;
      continue;
    }
    panels[panel.id] = convertPanel(panel);
    layouts.at(-1).spec.items.push({
      x, y: y - top, width: w, height: h, content: { $ref: `#/spec/panels/${panel.id}` },
    });
  }
  return {
    kind: 'Dashboard', metadata: { name: title, project: 'larder' },
    spec: { display: { name: title }, duration: '1h', variables: templating.list.map(convertVariable), panels, layouts },
  };
}

const parameters = new URLSearchParams(location.search);
const datasource = {
  kind: 'GlobalDatasource', metadata: { name: 'prometheus' },
  spec: {
    default: true,
    plugin: {
      kind: 'PrometheusDatasource',
      spec: { directUrl: parameters.get('prometheus'), scrapeInterval: parameters.get('scrapeInterval') },
    },
  },
};
const datasourceApi = {
  getDatasource: async () => undefined,
  getGlobalDatasource: async () => datasource,
  listDatasources: async () => [],
  listGlobalDatasources: async () => [datasource],
};
const pluginLoader = dynamicImportPluginLoader([prometheus, timeSeriesChart, statChart, table].map((module) => (
  { resource: module.getPluginModule(), importPlugin: async () => module }
)));
const theme = getTheme('light');
const dashboard = convert(await (await fetch('/dashboard.json')).json());

createRoot(document.getElementById('root')).render(
  <BrowserRouter>
    <QueryParamProvider adapter={ReactRouter6Adapter}>
      <ThemeProvider theme={theme}>
        <CssBaseline />
        <ChartsProvider chartsTheme={generateChartsTheme(theme, {})}>
          <SnackbarProvider>
            <PluginRegistry pluginLoader={pluginLoader}>
              <ValidationProvider>
                <QueryClientProvider client={new QueryClient()}>
                  <TimeZoneProvider timeZone="UTC">
                    <ViewDashboard dashboardResource={dashboard} datasourceApi={datasourceApi} isReadonly
                      isVariableEnabled isDatasourceEnabled={false} />
                  </TimeZoneProvider>
                </QueryClientProvider>
              </ValidationProvider>
            </PluginRegistry>
          </SnackbarProvider>
        </ChartsProvider>
      </ThemeProvider>
    </QueryParamProvider>
  </BrowserRouter>,
);
