"""Assertions of the corpus are explained like those of tests."""

import pytest

pytest.register_assert_rewrite("tests.crash.corpus", "tests.crash.corpus_waiting")
