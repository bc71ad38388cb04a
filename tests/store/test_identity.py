import time

from store.identity import ALPHABET, new_id


def test_ids_are_distinct_and_sort_by_time() -> None:
    many = {new_id("job") for _ in range(1000)}
    assert len(many) == 1000
    earlier = new_id("job")
    time.sleep(0.002)
    assert earlier < new_id("job")


def test_an_id_is_a_prefix_and_26_characters_of_the_alphabet() -> None:
    prefix, _, rest = new_id("art").partition("_")
    assert prefix == "art"
    assert len(rest) == 26
    assert set(rest) <= set(ALPHABET)
    assert len(set(ALPHABET)) == 32
    decoded = 0
    for character in rest:
        decoded = decoded << 5 | ALPHABET.index(character)
    assert abs((decoded >> 80) / 1000 - time.time()) < 60
