"""Reports for people: Markdown, and a page with plots that needs no network."""

from ashore.evaluation.model import Report, report_json
from ashore.evaluation.rendering.markdown import comparison_markdown, report_markdown
from ashore.evaluation.rendering.page import comparison_page, report_page
from ashore.evaluation.rendering.plots import comparison_png, report_png

__all__ = [
    "comparison_markdown",
    "comparison_page",
    "comparison_png",
    "report_files",
    "report_markdown",
    "report_page",
    "report_png",
]


def report_files(report: Report) -> dict[str, bytes]:
    """Return a report in every form, by file name."""
    png = report_png(report)
    files = {
        "report.json": report_json(report),
        "report.md": report_markdown(report).encode(),
        "report.html": report_page(report, png).encode(),
    }
    return files | ({"report.png": png} if png else {})
