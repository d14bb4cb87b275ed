"""What the generated tests are made of."""

import json
from typing import Any

from hypothesis import strategies as st

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
json_bytes = json_values.map(lambda value: json.dumps(value).encode())
header_text = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), min_size=1)
"""What reaches a function in a header: the host decodes bytes as latin-1 and lets no control character pass."""
shell_text = st.text(st.sampled_from("$`;&|<>(){}[]*?~!#'\"\\ \t\n%=-/abcAB01éü"), min_size=1, max_size=40)
