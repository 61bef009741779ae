"""Whole folders of clips in other voices: planned, done by many processes, and recorded."""

from vc.batch.ledger import LEDGER
from vc.batch.run import REPORT, REPORT_SUFFIXES, BatchReport, run_batch
from vc.batch.tasks import Outcome, Settings

__all__ = ["LEDGER", "REPORT", "REPORT_SUFFIXES", "BatchReport", "Outcome", "Settings", "run_batch"]
