import pytest

from compression.measure.accuracy import (
    Classification,
    Fidelity,
    MultiLabel,
    PairedAccuracy,
    PairedError,
    Regression,
    newcombe,
    share,
)
from compression.measure.claims import (
    accuracy_claim,
    baseline_claims,
    broken_claims,
    error_claim,
    fidelity_baseline_claims,
    fidelity_claim,
    headline,
    latency_claim,
    memory_claim,
    size_claim,
    target_claims,
    training_claims,
    worst_first,
)
from compression.measure.runtime import Comparison, Latency


def latency(ratio: float, low: float, high: float, batch: int = 1) -> Comparison:
    compressed = Latency(1e-4, 0.9e-4, 1.1e-4, 100)
    original = Latency(ratio * 1e-4, ratio * 0.9e-4, ratio * 1.1e-4, 100)
    return Comparison(batch, original, compressed, ratio, low, high)


def paired(lost: int, won: int, n: int = 1000) -> PairedAccuracy:
    low, high = newcombe(n - lost - won - 10, lost, won, 10)
    return PairedAccuracy(lost, won, n, (won - lost) / n, low, high, 0.5)


@pytest.mark.parametrize(
    ("original", "compressed", "verdict"),
    [(3000, 1000, "smaller"), (1000, 1000, "no gain"), (1000, 998, "no gain"), (1000, 1200, "larger")],
)
def test_size(original: int, compressed: int, verdict: str):
    assert size_claim("onnx", original, compressed).verdict == verdict


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [
        (2.0, 1.9, 2.1, "faster"),
        (2.0, 0.9, 3.0, "no gain"),  # not clear
        (1.02, 1.015, 1.025, "no gain"),  # clear, but within what two sessions of one file differ by
        (0.98, 0.975, 0.985, "no gain"),
        (0.5, 0.4, 0.6, "slower"),
        (0.5, 0.4, 1.1, "no gain"),
    ],
)
def test_latency(ratio: float, low: float, high: float, verdict: str):
    assert latency_claim(latency(ratio, low, high)).verdict == verdict


def test_slower_says_how_much():
    assert "2.00× slower at batch 64" in latency_claim(latency(0.5, 0.48, 0.52, 64)).text


@pytest.mark.parametrize(
    ("lost", "won", "verdict"),
    [
        (40, 5, "accuracy lost"),
        (5, 40, "accuracy gained"),
        (5, 5, "no loss shown"),
        (4, 1, "no loss shown"),
    ],
)
def test_accuracy(lost: int, won: int, verdict: str):
    claim = accuracy_claim(paired(lost, won))
    assert claim.verdict == verdict
    assert f"{(won - lost) / 10:+.2f} points" in claim.text


def test_error():
    assert error_claim(PairedError(0.5, 0.2, 0.8, 50)).verdict == "accuracy lost"
    assert error_claim(PairedError(-0.5, -0.8, -0.2, 50)).verdict == "accuracy gained"
    assert error_claim(PairedError(0.5, -0.2, 1.2, 50)).verdict == "no loss shown"
    assert error_claim(PairedError(0.5, None, None, 1)).verdict == "no loss shown"


def test_fidelity():
    assert fidelity_claim(Fidelity(share(900, 1000), 0.9, 10.0)).effect == "worse"
    assert fidelity_claim(Fidelity(share(998, 1000), 0.9, 10.0)).effect == "none"
    assert "10.0 dB" in fidelity_claim(Fidelity(None, 0.9, 10.0)).text


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (Fidelity(share(0, 40), 0.76, 0.3, 0.1), "broken"),
        (Fidelity(share(4, 40), 0.76, 0.3, 0.1), "broken"),  # as good as the commonest answer
        (Fidelity(share(26, 40), 0.9, 8.0, 0.7), "broken"),  # most agree, and so does the commonest answer
        (Fidelity(share(10, 40), 0.9, 8.0, 0.05), "broken"),  # not by chance, but most answers are others
        (Fidelity(share(25, 40), 0.9, 8.0, 0.05), "fidelity lost"),
        (Fidelity(share(40, 40), 1.0, 50.0, 1.0), "fidelity"),  # nothing to tell apart: said of the original
        (Fidelity(share(39, 40), 1.0, 50.0, 1.0), "fidelity"),
        (Fidelity(None, 0.5, 2.0), "broken"),
    ],
)
def test_outputs_that_are_no_longer_the_originals(measured: Fidelity, verdict: str):
    claim = fidelity_claim(measured)
    assert claim.verdict == verdict
    assert claim.text.startswith("the compressed network is not usable") == (verdict == "broken")


def test_not_usable_is_the_first_thing_said():
    claims = [latency_claim(latency(0.5, 0.4, 0.6)), fidelity_claim(Fidelity(share(0, 40), 0.76, 0.3, 0.1))]
    assert headline([size_claim("onnx", 2000, 1000), *claims]).startswith(
        "The compressed network is not usable: top-1 as the original's on 0.00%"
    )
    assert headline(claims).startswith("The compressed network is not usable")


def test_an_original_that_says_one_thing_is_told():
    (claim,) = fidelity_baseline_claims(Fidelity(share(40, 40), 1.0, 50.0, 1.0))
    assert (claim.verdict, claim.effect) == ("at chance", "worse")
    assert fidelity_baseline_claims(Fidelity(share(40, 40), 1.0, 50.0, 0.9)) == []
    assert fidelity_baseline_claims(Fidelity(None, 1.0, 50.0)) == []


def test_a_compressed_network_that_guesses():
    right, guessing = Classification(share(200, 240), None, 0.26), Classification(share(62, 240), None, 0.26)
    (claim,) = broken_claims(right, guessing)
    assert "no better than always guessing" in claim.text
    assert broken_claims(guessing, guessing) == []  # that the original guesses is said of it
    assert broken_claims(right, Classification(share(120, 240), None, 0.26)) == []


def test_a_compressed_network_that_says_every_label_or_the_mean():
    right, guessing = MultiLabel(0.9, 0.85, 0.95, 0.9, 0.3, 100), MultiLabel(0.25, 0.2, 0.3, 0.3, 0.3, 100)
    assert [claim.verdict for claim in broken_claims(right, guessing)] == ["broken"]
    assert broken_claims(right, right) == broken_claims(guessing, guessing) == []
    assert [claim.verdict for claim in broken_claims(Regression(0.1, 0.9, 50), Regression(1, 0, 50))] == ["broken"]
    assert broken_claims(Regression(0.1, 0.9, 50), Regression(0.5, 0.5, 50)) == []
    assert broken_claims(None, None) == []


def test_memory():
    assert memory_claim(20_000_000, 10_000_000).verdict == "less memory"
    assert memory_claim(10_000_000, 10_200_000).verdict == "no gain"
    assert memory_claim(10_000_000, 12_000_000).verdict == "more memory"


def test_what_got_worse_comes_first():
    claims = [size_claim("onnx", 3000, 1000), accuracy_claim(paired(5, 5)), latency_claim(latency(0.5, 0.4, 0.6))]
    assert [claim.effect for claim in worst_first(claims)] == ["worse", "none", "better"]
    assert headline(claims).startswith("2.00× slower")


def test_headline_of_no_gain():
    assert headline([size_claim("onnx", 1000, 1000)]).startswith("No gain")
    assert headline([size_claim("onnx", 1000, 500)]).startswith("2.00× smaller")


def test_headline_names_each_verdict_once():
    claims = [size_claim("onnx", 2000, 1000), size_claim("pt2", 4000, 1000), latency_claim(latency(2, 1.9, 2.1))]
    assert headline(claims).count("smaller") == 1
    assert headline(claims).index("2.00× smaller") < headline(claims).index("faster")


def test_an_original_at_chance_is_told_first():
    guessing = baseline_claims(share(62, 240), 0.26)
    assert guessing[0].effect == "worse"
    assert "preprocessing" in guessing[0].text
    assert baseline_claims(share(200, 240), 0.26) == []
    assert baseline_claims(share(240, 240), 1.0) == []


def test_training_for_nothing_is_told():
    vain, useful = ({"best_epoch": epoch, "history": [{"epoch": 0.0}, {"epoch": 1.0}]} for epoch in (0, 1.0))
    rounds = {"method": "prune.structured", "facts": {"rounds": [{"training": vain}, {"training": useful}]}}
    once = {"method": "finetune", "facts": vain}
    claims = training_claims([rounds, once, {"method": "finetune", "facts": useful}, {"method": "quantize.int8"}])
    assert [(claim.subject, claim.effect) for claim in claims] == [("training", "none")] * 2
    assert claims[0].text.startswith("step 1 (prune.structured): 1 of 2 trainings made nothing better")
    assert claims[1].text.startswith("step 2 (finetune): the training made nothing better")


def test_a_missed_target_is_told():
    met, missed = ({"wanted": 0.5, "measured": share, "reached": share < 0.51} for share in (0.505, 0.61234))
    steps = [
        {"method": "prune.structured", "facts": {"rounds": [{"latency": met}, {"latency": missed}]}},
        {"method": "prune.structured", "facts": {"rounds": [{"latency": missed}, {"latency": met}]}},
        {"method": "factorize.lowrank", "facts": {"latency": {"wanted": 0.4, "attempts": [met | {"reached": False}]}}},
        {"method": "factorize.lowrank", "facts": {"latency": {"wanted": 0.5, "attempts": [missed, met]}}},
        {"method": "quantize.entropy", "facts": {"file_bytes": 2100, "target_bytes": 2000, "target_met": False}},
        {"method": "quantize.entropy", "facts": {"file_bytes": 1900, "target_bytes": 2000, "target_met": True}},
    ]
    claims = target_claims(steps)
    assert {(claim.subject, claim.verdict, claim.effect) for claim in claims} == {("target", "missed", "worse")}
    assert [claim.text.partition(": the target was missed: ")[::2] for claim in claims] == [
        ("step 1 (prune.structured)", "61.2% of the time is left, 50.0% was wanted"),
        ("step 3 (factorize.lowrank)", "50.5% of the time is left, 40.0% was wanted"),
        ("step 5 (quantize.entropy)", "2,100 bytes of the .nwk file, 2,000 were wanted"),
    ]
