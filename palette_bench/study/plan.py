"""The records of a study: the hand-written plan, the frozen plan, the lists of trials, and the truth.

A study folder, all of it written once by `study design`:

    study.json             `Study`, the frozen plan; SHA-256 of its bytes -> the study id
    consent.txt            what raters agree to; its SHA-256 is in the plan
    instructions.txt       what raters are told to do; its SHA-256 is in the plan, too
    slots/000.json         `SlotList`: one rater's trials in order, by tokens alone; safe to send
    stimuli/FILE.png       each image once, plain PNG of equal size; the name reveals nothing
    private/truth.csv      `Truth`: what every token stands for; mode 0600, like all in private/
    private/seal.json      `StudySecret`: the study's id and its secret

A token names one side of one trial of one slot, so the same image has another name for every rater. Only
truth.csv maps a token to its file in stimuli/. All names and all orders are derived from the secret.
`private/` never leaves the machine that runs the study. Source: reports and studies, section 7.1.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field

from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Part, Record, Sha, Slug, Text
from palette_bench.tasks.protocol import UnderProtocol

CATCH_METHOD = "copy-input"  # catch and practice trials compare the original with the degraded input
MOST_TEST_TRIALS = 120  # most test trials that one rater is asked to do
MOST_RATERS = 10_000

Kind: TypeAlias = Literal["test", "catch", "practice"]
Side: TypeAlias = Literal["L", "R"]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


def _plain_name(name: str) -> str:
    if "/" in name or name.startswith("."):
        raise ValueError("the name of a file beside study.toml, without a folder")
    return name


FileName = Annotated[Text, AfterValidator(_plain_name)]


class Exclude(Part):
    """The limits of the exclusion rules, fixed before the first vote. Source: section 7.4.

    Attributes:
        catch_min_correct: catch trials that a rater must answer correctly.
        min_median_rt_ms: smallest allowed median time to answer.
        side_bias_p: a rater is excluded if the two-sided binomial p value of the side choices is smaller.
        max_timing_error_ms: largest allowed |shown - planned| of a trial.
        min_valid_share: smallest allowed share of valid trials among a rater's test trials.
    """

    catch_min_correct: int = Field(default=7, ge=0)
    min_median_rt_ms: int = Field(default=250, ge=0)
    side_bias_p: float = Field(default=1e-4, ge=0, lt=1)
    max_timing_error_ms: int = Field(default=150, ge=0)
    min_valid_share: float = Field(default=0.8, ge=0, le=1)


class Ethics(Part):
    """Who approved the study, what raters are paid, and the purpose of the study."""

    body: Text | None = None
    approval: Text | None = None
    pay_per_hour: Text | None = None
    currency: Text | None = None
    purpose: Text


class StudyPlan(Part):
    """The fields that the hand-written and the frozen plan share."""

    title: Text
    question: Text = "Which image would you guess is from a camera?"
    layout: Literal["side-by-side", "sequential"] = "side-by-side"
    show_input: bool = False
    display_ms: int = Field(default=3000, ge=100, le=60_000)
    size_css_px: int = Field(default=256, ge=32, le=2048)
    images: int = Field(default=500, ge=1)
    image_seed: int = Field(default=0, ge=0)
    raters: int = Field(default=100, ge=1, le=MOST_RATERS)
    trials_per_method: int = Field(default=50, ge=1, le=MOST_TEST_TRIALS)
    practice: int = Field(default=6, ge=0, le=50)
    catch: int = Field(default=8, ge=0, le=50)
    exclude: Exclude = Exclude()
    stop_rule: Literal["fixed-raters"] = "fixed-raters"
    alpha: float = Field(default=0.05, gt=0, le=0.5)
    margin: float = Field(default=0.05, gt=0, lt=0.5)
    ethics: Ethics

    @property
    def metric(self) -> str:
        """Return the metric id of the fool rate; different display times are different metrics."""
        return f"fool_rate@{self.display_ms / 1000:g}s"


class StudyToml(StudyPlan, Record):
    """`study.toml`, written by hand. The set and the submissions are arguments of `study design`.

    `consent` and `instructions` name text files beside it.
    """

    kind: ClassVar[str] = "study-plan"
    consent: FileName
    instructions: FileName


class StudyTarget(UnderProtocol):
    """The set from which the study takes its images."""

    source: str
    task: str
    variant: str
    set: Sha


class Studied(Part):
    """A method under study; `outputs` is the digest of its output pixels, as on its scorecard."""

    slug: Slug
    version: Text
    outputs: Sha


class Study(StudyPlan, Record):
    """`study.json`: the plan with all choices made, frozen before the first vote.

    `truth`, `slots` and `stimuli` are digests of the files beside it; they do not reveal the content.
    """

    kind: ClassVar[str] = "study"
    target: StudyTarget
    methods: tuple[Studied, ...] = Field(min_length=1)
    methods_per_rater: int = Field(ge=1)
    image_ids: tuple[str, ...]
    catch_ids: tuple[str, ...]
    practice_ids: tuple[str, ...]
    consent: Sha
    instructions: Sha
    truth: Sha
    slots: Sha
    stimuli: Sha

    @cached_property
    def id(self) -> str:
        """Return the study id: `st_` and the first 12 hexadecimal digits of the file's SHA-256."""
        return f"st_{sha256(self.to_json().encode())[:12]}"

    @property
    def slugs(self) -> tuple[str, ...]:
        """Return the methods' slugs in the plan's order."""
        return tuple(method.slug for method in self.methods)

    @property
    def test_trials(self) -> int:
        """Return the number of test trials of one rater."""
        return self.methods_per_rater * self.trials_per_method

    @property
    def trials(self) -> int:
        """Return the number of all trials of one rater: practice, test and catch trials."""
        return self.practice + self.catch + self.test_trials

    def ids_of(self, kind: Kind) -> tuple[str, ...]:
        """Return the image ids that trials of a kind may show."""
        return {"test": self.image_ids, "catch": self.catch_ids, "practice": self.practice_ids}[kind]


class Trial(Part):
    """The part of a trial that a rater may know: practice or not, and tokens. Catch trials are not marked."""

    trial: int = Field(ge=0)
    practice: bool
    left: Token
    right: Token
    input: Token | None = None


class SlotList(Record):
    """`slots/NNN.json`: the trials of one rater slot, in order."""

    kind: ClassVar[str] = "study-slot"
    slot: int = Field(ge=0)
    trials: tuple[Trial, ...]


class Truth(Part):
    """A row of `private/truth.csv`: what one trial of a slot shows, and the tokens of its images.

    `real_file`, `model_file` and `input_file` are file names in stimuli/. `input` and `input_file` are empty
    unless the plan shows the input. `left` and `right` are tokens; the original is on `real_side`.
    """

    slot: int = Field(ge=0)
    trial: int = Field(ge=0)
    kind: Kind
    image_id: str
    method: Slug
    real_side: Side
    left: Token
    right: Token
    input: Token | None = None
    real_file: str
    model_file: str
    input_file: str | None = None

    def files(self) -> dict[str, str]:
        """Return token -> file in stimuli/ for every image of the trial."""
        real, model = (self.left, self.right) if self.real_side == "L" else (self.right, self.left)
        shown = {real: self.real_file, model: self.model_file}
        return shown | ({self.input: self.input_file} if self.input and self.input_file else {})


class StudySecret(Record):
    """`private/seal.json`: the id of the plan when it was frozen, and the study's secret."""

    kind: ClassVar[str] = "study-seal"
    study_id: str
    secret: Sha


def keyed_digest(secret: str, text: str, digits: int) -> str:
    """Return the first hexadecimal digits of HMAC-SHA256(secret, text), which reveal nothing of either."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()[:digits]


def slot_list(slot: int, rows: Iterable[Truth]) -> SlotList:
    """Return the part of a slot's truth that a rater may know."""
    trials = tuple(
        Trial(trial=t.trial, practice=t.kind == "practice", left=t.left, right=t.right, input=t.input)
        for t in rows
    )
    return SlotList(schema=SlotList.schema_name(), slot=slot, trials=trials)
