"""The papers behind the methods, as a card cites them."""

from __future__ import annotations

from collections.abc import Mapping

_LOTUS = ("spartalis2025lotus", "LoTUS: Large-Scale Machine Unlearning with a Taste of Uncertainty",
          "Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros",
          "CVPR", 2025, "2503.18314")  # fmt: skip
_UNBOUNDED = ("kurmanji2023towards", "Towards Unbounded Machine Unlearning",
              "Kurmanji, Meghdad and Triantafillou, Peter and Hayes, Jamie and Triantafillou, Eleni",
              "NeurIPS", 2023, "2302.09880")  # fmt: skip
# Method → key, title, authors, venue, year, arXiv number.
PAPERS = {
    "lotus": _LOTUS,
    "neggrad_plus": _UNBOUNDED,
    "scrub": _UNBOUNDED,
    "random_labels": ("graves2021amnesiac", "Amnesiac Machine Learning",
                      "Graves, Laura and Nagisetty, Vineel and Ganesh, Vijay",
                      "AAAI", 2021, "2010.10981"),
    "bad_teacher": ("chundawat2023bad", "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an "
                    "Incompetent Teacher",
                    "Chundawat, Vikram S. and Tarun, Ayush K. and Mandal, Murari and Kankanhalli, Mohan",
                    "AAAI", 2023, "2205.08096"),
    "ssd": ("foster2024fast", "Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening",
            "Foster, Jack and Schoepf, Stefan and Brintrup, Alexandra",
            "AAAI", 2024, "2308.07707"),
    "unsir": ("tarun2023fast", "Fast Yet Effective Machine Unlearning",
              "Tarun, Ayush K. and Chundawat, Vikram S. and Mandal, Murari and Kankanhalli, Mohan",
              "IEEE Transactions on Neural Networks and Learning Systems", 2023, "2111.08947"),
    "salun": ("fan2024salun", "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image "
              "Classification and Generation",
              "Fan, Chongyu and Liu, Jiancheng and Zhang, Yihua and Wong, Eric and Wei, Dennis and Liu, Sijia",
              "ICLR", 2024, "2310.12508"),
}  # fmt: skip


def citations(method: Mapping[str, object]) -> str:
    """BibTeX of a method's paper, of the method's within it, and of LoTUS, whose metrics are used throughout.

    Args:
        method: name and fields, as `hf_lotus.methods.describe` gives them.
    """
    inner = method.get("inner")
    names = [method.get("name"), inner.get("name") if isinstance(inner, Mapping) else None, "lotus"]
    papers = dict.fromkeys(PAPERS[name] for name in names if name in PAPERS)
    return "\n\n".join(_bibtex(*paper) for paper in papers)


def _bibtex(key: str, title: str, authors: str, venue: str, year: int, arxiv: str) -> str:
    kind, where = ("article", "journal") if "Transactions" in venue else ("inproceedings", "booktitle")
    entries = {"title": title, "author": authors, where: venue, "year": year, "eprint": arxiv}
    lines = [f"  {name:<13} = {{{value}}}," for name, value in {**entries, "archivePrefix": "arXiv"}.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
