"""Where the public data sets are to be had, under which licence and in which layout. Text only."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Download:
    """What a user needs to know to get a data set."""

    title: str
    address: str
    licence: str
    layout: str


SOURCES = {
    "gopro": Download(
        "GoPro (Nah et al. 2017)",
        "https://seungjunnah.github.io/Datasets/gopro",
        "CC BY 4.0",
        "test/SEQUENCE/{blur,blur_gamma,sharp}/NAME.png",
    ),
    "hide": Download(
        "HIDE (Shen et al. 2019)",
        "https://github.com/joanshen0508/HA_deblur",
        "as its page says",
        "test/…/NAME.png beside GT/NAME.png",
    ),
    "realblur": Download(
        "RealBlur-J/-R (Rim et al. 2020)",
        "https://github.com/rimchang/RealBlur",
        "CC BY 4.0",
        "RealBlur_J_test_list.txt beside the folders that its lines name",
    ),
    "koehler": Download(
        "Köhler et al. 2012",
        "http://people.kyb.tuebingen.mpg.de/rolfk/BenchmarkECCV2012",
        "as its page says",
        "Blurry1_1.png … beside Image1/Kernel1/GroundTruth1_1_1.png …",
    ),
    "rwbi": Download(
        "RWBI (Zhang et al. 2020)",
        "https://github.com/HDCVLab/Deblurring-by-Realistic-Blurring",
        "as its page says",
        "photos in one folder, no truth",
    ),
}


def explain_missing(root: Path) -> str:
    """One line for a place that is not there: which data set was probably meant and how to get it."""
    wanted = root.as_posix().lower().replace("kohler", "koehler").replace("köhler", "koehler")
    matches = [source for key, source in SOURCES.items() if key in wanted]
    if not matches:
        known = ", ".join(f"{source.title}: {source.address}" for source in SOURCES.values())
        return f"{root}: no such folder; it wants photos, or blur/ beside sharp/, or one of {known}"
    source = matches[0]
    return (
        f"{root}: no such folder; {source.title} is at {source.address}, "
        f"licence {source.licence}; expected layout: {source.layout}"
    )
