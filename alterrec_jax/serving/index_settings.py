"""What an export's index of item vectors is built with."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """Of the index of item vectors.

    Attributes:
      links: neighbours that it keeps for each item, at least 2.
      effort: items that a search looks at: more find more, and take longer. The index does not keep it; whoever
        restores it gives it as expansion_search.
    """

    links: int = 32
    effort: int = 256
