# Stands in for the official image of Python: Debian's Python 3.11 as `python`, with pip.
ARG DEBIAN
FROM ${DEBIAN}
# What Debian's packages do when they are configured, as far as it is needed here.
RUN cp /usr/share/base-passwd/passwd.master /etc/passwd \
 && cp /usr/share/base-passwd/group.master /etc/group \
 && rm /usr/lib/python3.11/EXTERNALLY-MANAGED \
 && ldconfig
# The bytecode is part of a published image, too.
RUN mkdir -p /usr/local/bin \
 && ln -s /usr/bin/python3 /usr/local/bin/python \
 && for wheel in /usr/share/python-wheels/*.whl; do python -m zipfile -e "$wheel" /usr/local/lib/python3.11/dist-packages; done \
 && python -m compileall -q -j 2 /usr/lib/python3.11 /usr/local/lib/python3.11
