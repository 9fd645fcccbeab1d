"""The stop page, the answers to stopped requests for which a page is of no use, and the other answers of the gate.

  asker.py      the client that asks: the kind of answer and the language that it wants, by the head of its request
  answers.py    StopPage: every answer there is under one policy, and the right one for an asker
  rendering.py  the texts: templates, the policy's texts, one page for each language and country
  template.py   the operator's own template, and the parts that it must keep
  languages.py  the catalogues of translations
  page_files.py the files for them that a policy names
  refusals.py   the answers to requests that are refused or lead nowhere
  *.html, *.txt, *.css, languages/*.po

Rules
  - No answer knows the host, so none can show it.
  - No script, nothing from elsewhere, no cookie, never cached, no way to continue.
"""
