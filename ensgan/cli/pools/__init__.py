"""Commands on pools of anybody's generators: score, search, select, hand over."""
