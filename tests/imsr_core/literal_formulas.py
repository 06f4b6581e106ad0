"""The method's equations as loops over plain Python floats: what the vectorised code must equal."""

from __future__ import annotations

import math
from fractions import Fraction

Vector = list[float]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def scaled(factor: float, a: Vector) -> Vector:
    return [factor * x for x in a]


def plus(a: Vector, b: Vector) -> Vector:
    return [x + y for x, y in zip(a, b, strict=True)]


def norm(a: Vector) -> float:
    return math.sqrt(dot(a, a))


def unit(a: Vector) -> Vector:
    return scaled(1 / norm(a), a)


def softmax(logits: Vector) -> Vector:
    top = max(logits)
    powers = [math.exp(x - top) for x in logits]
    return [p / sum(powers) for p in powers]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def squash(x: Vector) -> Vector:
    length = norm(x)
    return scaled(length**2 / (1 + length**2) / length, x) if length else x


def routing(items: list[Vector], past: list[Vector], mass: Vector, logits: list[Vector], iterations: int):
    """Interests and couplings of the last iteration, from mapped items e_i' and first logits b_ik."""
    logits = [list(row) for row in logits]
    for _ in range(iterations):
        coupling = [softmax(row) for row in logits]
        interests = []
        for k in range(len(past)):
            total = scaled(mass[k], past[k])
            for i, item in enumerate(items):
                total = plus(total, scaled(coupling[i][k], item))
            interests.append(squash(total))
        for i, item in enumerate(items):
            for k, interest in enumerate(interests):
                logits[i][k] += dot(item, interest)
    return interests, coupling


def attention(
    items: list[Vector],
    positions: list[Vector],
    hidden: list[Vector],
    queries: list[Vector],
    past: list[Vector],
    mass: Vector,
) -> list[Vector]:
    """ComiRec-SA; ``positions`` belong to ``items`` one by one."""
    keys = [
        [math.tanh(dot(row, plus(item, place))) for row in hidden] for item, place in zip(items, positions, strict=True)
    ]
    n, interests = len(items), []
    for query, old, m in zip(queries, past, mass, strict=True):
        weights = softmax([dot(query, key) for key in keys]) if n else []
        total = scaled(m, old)
        for weight, item in zip(weights, items, strict=True):
            total = plus(total, scaled(n * weight, item))
        interests.append(scaled(1 / (m + n), total) if m + n else total)
    return interests


def label_aware(interests: list[Vector], target: Vector, scale: float, hard: bool = False) -> Vector:
    logits = [scale * dot(target, h) for h in interests]
    if hard:
        return interests[logits.index(max(logits))]
    user = [0.0] * len(target)
    for weight, interest in zip(softmax(logits), interests, strict=True):
        user = plus(user, scaled(weight, interest))
    return user


def cross_entropy(user: Vector, target: Vector, negatives: list[Vector], scale: float) -> float:
    return -math.log(softmax([scale * dot(user, e) for e in [target, *negatives]])[0])


def clarity_of_item(item: Vector, interests: list[Vector], scale: float) -> float:
    """KL(uniform || softmax_k(scale e . h_k)), by the definition of KL."""
    posterior = softmax([scale * dot(item, h) for h in interests])
    share = 1 / len(interests)
    return sum(share * math.log(share / p) for p in posterior)


def eir_bce(student: Vector, teacher: Vector, item: Vector, old_item: Vector, factor: float) -> float:
    x, y = factor * dot(item, student), factor * dot(old_item, teacher)
    # 1 - sigmoid(x) = sigmoid(-x), where the difference would lose its digits
    log_p, log_not_p = -math.log1p(math.exp(-x)), -math.log1p(math.exp(x))
    return -(sigmoid(y) * log_p + sigmoid(-y) * log_not_p)


def eir_listwise(
    student: Vector, teacher: Vector, items: list[Vector], old_items: list[Vector], factor: float
) -> float:
    if not items:
        return 0.0
    new = softmax([factor * dot(e, student) for e in items])
    soft = softmax([factor * dot(e, teacher) for e in old_items])
    return sum(q * math.log(q / p) for q, p in zip(soft, new, strict=True))


def kd_across_interests(
    student: list[Vector], teacher: list[Vector], item: Vector, old_item: Vector, factor: float
) -> float:
    new = softmax([factor * dot(item, h) for h in student])
    soft = softmax([factor * dot(old_item, h) for h in teacher])
    return sum(q * math.log(q / p) for q, p in zip(soft, new, strict=True))


def kd_of_the_user(
    student: list[Vector],
    teacher: list[Vector],
    items: list[Vector],
    old_items: list[Vector],
    scale: float,
    factor: float,
) -> float:
    """Label-aware user vectors of both, distilled over the items; the target comes first."""

    def user(interests: list[Vector], target: Vector) -> Vector:
        weights, total = softmax([scale * dot(target, h) for h in interests]), [0.0] * len(target)
        for weight, interest in zip(weights, interests, strict=True):
            total = plus(total, scaled(weight, interest))
        return total

    return eir_listwise(user(student, items[0]), user(teacher, old_items[0]), items, old_items, factor)


def eir_euclidean(student: Vector, teacher: Vector) -> float:
    return sum((a - b) ** 2 for a, b in zip(student, teacher, strict=True))


def orthogonal_part(vector: list[int], existing: list[list[int]]) -> Vector:
    """``vector`` minus its projection on the span of ``existing``, exactly: Gram-Schmidt in fractions."""

    def remainder(v: list[Fraction], basis: list[list[Fraction]]) -> list[Fraction]:
        for q in basis:
            share = dot(v, q) / dot(q, q)
            v = [x - share * y for x, y in zip(v, q, strict=True)]
        return v

    basis: list[list[Fraction]] = []
    for row in existing:
        left = remainder([Fraction(x) for x in row], basis)
        if any(left):
            basis.append(left)
    return [float(x) for x in remainder([Fraction(x) for x in vector], basis)]
