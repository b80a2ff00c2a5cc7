"""Dialects of your own: other words and tags around the same turns, for search questions and for tools."""

from dataclasses import replace

from at2po_env import dialects, tool_dialects

# env.kwargs.dialect: "examples.components.dialect:TERSE"
TERSE = replace(
    dialects.TAGS,
    name="terse",
    instructions="Find the answer. <look>words</look> searches, <say>answer</say> ends.\n",
    search="look",
    answer="say",
)

# The same for an environment of tools (ToolRules.of(dialect=…)).
TERSE_TOOLS = replace(tool_dialects.BARE, name="terse", instructions="Use one of these:\n{tools}\n", answer="say")
