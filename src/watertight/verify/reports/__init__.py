"""How a proof is shown: to a person, to a program, to a CI system, in a browser."""

from watertight.verify.reports.html import to_html
from watertight.verify.reports.json import to_json
from watertight.verify.reports.junit import to_junit
from watertight.verify.reports.sarif import to_sarif
from watertight.verify.reports.table import to_table

__all__ = ["to_html", "to_json", "to_junit", "to_sarif", "to_table"]
