def render(facts, results): return ""
