"""What every board has: rows of panels on a grid of 24 columns, variables, and Grafana's JSON of them.

A board is `Board(...)`, a row `(title, [panel, ...])`, a panel one of `stat`, `graph`, `bars` and `table` with its queries. A
query is a pair: text and legend. Nothing here knows a metric.
"""

import json

SCHEMA = 39  # of Grafana 10.4 and later; older versions of a board are migrated, newer ones are not


class Prometheus:
    kind, name = "prometheus", "Prometheus"

    @staticmethod
    def target(text, legend, table):
        shape = {"format": "table", "instant": True, "range": False} if table else {"format": "time_series", "range": True}
        return {"expr": text, "legendFormat": legend or "__auto", "editorMode": "code", **shape}

    @staticmethod
    def variable(text):
        return {"query": text, "refId": "variable"}


class InfluxDB:
    kind, name = "influxdb", "InfluxDB"

    @staticmethod
    def target(text, legend, table):
        shape = {"resultFormat": "table" if table else "time_series"}
        return {"query": text, "rawQuery": True, **({"alias": legend} if legend else {}), **shape}

    @staticmethod
    def variable(text):
        return text


def stat(title, unit, *queries, bad_above=None):
    return _panel("stat", title, unit, queries, {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
        "graphMode": "area", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
    }, bad_above=bad_above)


def graph(title, unit, *queries, text=None, stacked=False):
    custom = {
        "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": 120_000,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    return _panel("timeseries", title, unit, queries, {
        "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }, custom=custom, text=text)


def table(title, unit, *queries, hidden=(), links=(), text=None):
    panel = _panel("table", title, unit, queries, {"showHeader": True, "cellHeight": "sm"}, text=text)
    panel["is_table"] = True
    panel["transformations"] = [{"id": "organize", "options": {
        "excludeByName": {name: True for name in hidden}, "indexByName": {}, "renameByName": {}}}]
    panel["fieldConfig"]["overrides"] = [{
        "matcher": {"id": "byName", "options": field},
        "properties": [{"id": "links", "value": [{"title": title, "url": url}]}],
    } for field, title, url in links]
    return panel


def _panel(kind, title, unit, queries, options, custom=None, bad_above=None, text=None):
    steps = [{"color": "green", "value": None}]
    if bad_above is not None:
        steps.append({"color": "red", "value": bad_above})
    return {
        "type": kind, "title": title, "queries": queries, "options": options, **({"description": text} if text else {}),
        "fieldConfig": {"defaults": {
            "unit": unit, "color": {"mode": "thresholds" if kind == "stat" else "palette-classic"},
            "thresholds": {"mode": "absolute", "steps": steps}, **({"custom": custom} if custom else {}),
        }, "overrides": []},
    }


def variable(name, label, query, many=True, everything=True):
    """A variable filled by a query; `All` stands for every value that the query finds."""
    return {"name": name, "label": label, "query": query, "many": many, "everything": everything}


class Board:
    def __init__(self, source, uid, title, text, tags, variables, rows, refresh="10s", span="30m", interval=None):
        self.source, self.uid, self.title, self.text, self.tags = source, uid, title, text, tags
        self.variables, self.rows, self.refresh, self.span, self.interval = variables, rows, refresh, span, interval

    def json(self):
        board = {
            "uid": self.uid, "title": self.title, "description": self.text, "tags": self.tags, "schemaVersion": SCHEMA,
            "version": 1, "editable": True, "graphTooltip": 1, "refresh": self.refresh, "timezone": "",
            "time": {"from": f"now-{self.span}", "to": "now"}, "timepicker": {}, "fiscalYearStartMonth": 0, "liveNow": False,
            "annotations": {"list": []}, "links": [{
                "type": "dashboards", "title": "Boards", "tags": ["sluicegate"], "asDropdown": True, "includeVars": False,
                "keepTime": True, "targetBlank": False, "icon": "", "tooltip": "", "url": ""}],
            "templating": {"list": [self._datasource(), *map(self._variable, self.variables)]},
            "panels": self._panels(),
        }
        return json.dumps(board, indent=1, ensure_ascii=False) + "\n"

    def _uid(self):
        return {"type": self.source.kind, "uid": "${datasource}"}

    def _datasource(self):
        return {"name": "datasource", "label": self.source.name, "type": "datasource", "query": self.source.kind, "hide": 0,
                "multi": False, "includeAll": False, "refresh": 1, "regex": "", "skipUrlSync": False, "options": []}

    def _variable(self, variable):
        everything = {"text": ["All"], "value": ["$__all"]} if variable["many"] else {"text": "All", "value": "$__all"}
        return {
            "name": variable["name"], "label": variable["label"], "type": "query", "datasource": self._uid(),
            "query": self.source.variable(variable["query"]), "refresh": 2, "sort": 1, "hide": 0, "regex": "",
            "multi": variable["many"], "includeAll": variable["everything"], "skipUrlSync": False, "options": [],
            **({"current": everything} if variable["everything"] else {}),
        }

    def _panels(self):
        panels, y = [], 0
        for title, row in self.rows:
            panels.append({"type": "row", "title": title, "collapsed": False, "panels": [],
                           "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
            y += 1
            small = all(panel["type"] == "stat" for panel in row)
            columns, height = (len(row), 4) if small else (min(len(row), 3), 8)
            for at, panel in enumerate(row):
                place = {"h": height, "w": 24 // columns, "x": at % columns * (24 // columns), "y": y + at // columns * height}
                panels.append(self._place(panel, place))
            y += (len(row) + columns - 1) // columns * height
        return [{"id": number, **panel} for number, panel in enumerate(panels, 1)]

    def _place(self, panel, place):
        panel = dict(panel)
        queries, is_table = panel.pop("queries"), panel.pop("is_table", False)
        targets = [{"refId": chr(ord("A") + at), "datasource": self._uid(), **self.source.target(text, legend, is_table)}
                   for at, (text, legend) in enumerate(queries)]
        return {**panel, "datasource": self._uid(), "gridPos": place, "targets": targets,
                **({"interval": self.interval} if self.interval else {})}
