"""Import of experiment folders of other RVC tools (SPECIFICATION.md, sections 2.1 and 14.3)."""
