"""Reports for people, as Markdown."""

from ashore.lab.evaluation.model import Report, report_json
from ashore.lab.evaluation.rendering.markdown import comparison_markdown, report_markdown


def report_files(report: Report) -> dict[str, bytes]:
    """Return a report in both forms, by file name."""
    return {"report.json": report_json(report), "report.md": report_markdown(report).encode()}
