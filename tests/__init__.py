import pytest

# A failed assertion of a helper says what was compared, as one of a test does.
pytest.register_assert_rewrite("tests.helpers")
