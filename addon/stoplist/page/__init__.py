"""The stop page, and what a stopped request gets where a page is of no use.

  asker.py      who asks, by the head of the request: for what kind of answer, in which language
  answers.py    StopPage: every answer there is under one policy, and the right one for an asker
  rendering.py  the texts: templates, what the policy says, one page for each language and country
  template.py   the operator's own template, and what it must not leave out
  languages.py  the catalogues of translations
  refusals.py   the answers to what is refused, not stopped
  *.html, *.txt, *.css, languages/*.po

Rules
  - No answer knows the host, so none can show it.
  - No script, nothing from elsewhere, no cookie, never cached, no way to continue.
"""
