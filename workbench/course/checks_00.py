"""The check of chapter 00: one exercise, to see how exercises work."""

from __future__ import annotations

from workbench.course import expect

expect(
    "00.credit",
    lambda paid: paid - paid.mean(),
    inputs=lambda rng: (rng.integers(0, 2, 6) + rng.random(6),),
    mistakes={
        "the wrong way round: whoever paid more than the average deserves credit above zero": lambda paid: paid.mean() - paid,
        "that is the average alone; subtract it from each payment": lambda paid: paid.mean(),
        "you subtracted the sum; the average is the sum divided by the number of pulls": lambda paid: paid - paid.sum(),
        "you divided by the average; subtract it": lambda paid: paid / paid.mean(),
        "you gave the payments back as they were; subtract their average": lambda paid: paid,
        "you also divided by the standard deviation; later we do, here only the average goes": lambda paid: (
            (paid - paid.mean()) / paid.std()
        ),
    },
    praise="correct: that is how every exercise is checked",
)
