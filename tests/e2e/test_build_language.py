"""The language's rarer parts, by either door: warnings of the lint, scripts with their interpreter, caches that begin with something, what is refused by name."""
import re

import pytest

from test_build_copy import modern, project  # noqa: F401  fixtures
from test_buildx import buildx  # noqa: F401  a fixture

LINTED = 'FROM bb as one\nMAINTAINER me\nRUN echo $PATH $WHAT\nCOPY hidden$WHO /\nCMD true\n'
WARNINGS = ["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)",
            'MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)',
            "UndefinedVar: Usage of undefined variable '$WHO' (line 4)",
            'JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 5)']


@pytest.mark.differs('has a BuildKit without warnings')
def test_an_ordinary_build_says_its_warnings(modern):  # noqa: F811
    modern.file('hidden', 'x')
    out = modern.ok(LINTED)
    assert all(warning in out for warning in WARNINGS)
    out = re.sub(r'\x1b\[[0-9;]*m', '', out)
    assert ' 4 warnings found (use docker --debug to expand):\n' in out and all(f'\n - {warning}\n' in out for warning in WARNINGS)  # in any order
    whole = modern.buildx.docker_with_plugins('--debug', 'buildx', *modern.words())
    assert whole.returncode == 0 and ' 4 warnings found:\n' in re.sub(r'\x1b\[[0-9;]*m', '', whole.stderr)
    assert ('More info: https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\nDockerfile:2\n--------------------\n   1 |     FROM bb as one\n   2 | >>> MAINTAINER me\n'
            in whole.stderr)
    assert 'warning' not in modern.ok('# check=skip=all\n' + LINTED)
    out = modern.fails('# check=error=true;skip=FromAsCasing,UndefinedVar\n' + LINTED)
    assert 'failed to solve: lint violation found for rules: MaintainerDeprecated, JSONArgsRecommended' in out
    assert modern.docker.ok('images', '-q', modern.name) != '', 'the earlier one'


@pytest.mark.differs_today('knows no heredocs in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_script_names_its_interpreter(project):  # noqa: F811
    text = 'FROM bb\nUSER app\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print "by awk" >"/tmp/f" }\nEOF\nRUN <<-"S"\n#!/bin/sh -e\n\techo $0 >/tmp/g\n\tS\nUSER root\n'
    project.ok(text)
    assert project.run('cat', '/tmp/f', '/tmp/g').split('\n') == ['by awk', '/dev/pipes/S']
    assert project.ok(text).count('Using cache') == 4
    assert 'Using cache' not in project.ok(text.replace('by awk', 'by awk again')).split('Step 3')[1].split('Step 5')[0]
    assert project.run('cat', '/tmp/f') == 'by awk again' and project.run('ls', '-A', '/dev').find('pipes') < 0


@pytest.mark.differs_today('has no mounts in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_cache_begins_with_what_a_stage_has(project, name):  # noqa: F811
    text = (f'FROM bb AS seed\nRUN mkdir -p /s/d && echo FIRST >/s/d/f && chmod 600 /s/d/f && chown 5:6 /s/d/f\nFROM bb\nRUN --mount=type=cache,id={name},from=seed,source=/s,target=/c '
            'stat -c %a:%u:%g /c/d/f >/out; cat /c/d/f >>/out; echo more >>/c/d/f\n')
    project.ok(text.replace('FIRST', 'one'))
    assert project.run('cat', '/out').split() == ['600:5:6', 'one']
    project.ok(text.replace('FIRST', 'one'), '--no-cache')
    assert project.run('cat', '/out').split() == ['600:5:6', 'one', 'more']
    project.ok(text.replace('FIRST', 'two'))  # what it begins with is another: so is the cache
    assert project.run('cat', '/out').split() == ['600:5:6', 'two']
    assert 'no/such' in project.fails(f'FROM bb\nRUN --mount=type=cache,id={name},from=bb,source=/no/such,target=/c true\n')


@pytest.mark.differs('takes any word')
def test_a_signal_that_is_none(project):  # noqa: F811
    assert 'invalid signal: ODD' in project.fails('FROM bb\nSTOPSIGNAL ODD\n')
    project.ok('FROM bb\nSTOPSIGNAL sigrtmin+3\n')
