"""The audit: is it gone, or only quiet? The pool of reference models, and what is judged by it."""

from hf_lotus.audit.auditor import audit as audit
from hf_lotus.audit.easydub import read_easydub as read_easydub
from hf_lotus.audit.outputs import audit_outputs as audit_outputs
from hf_lotus.audit.outputs import read_outputs as read_outputs
from hf_lotus.audit.pool import Pool as Pool
from hf_lotus.evaluation.findings import AuditReport as AuditReport

__all__ = ["AuditReport", "Pool", "audit", "audit_outputs", "read_easydub", "read_outputs"]
