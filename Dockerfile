# The recogniser as a web service (nbs/more/serving.ipynb): docker build -t ser_nb . && docker run -p 8000:8000 ser_nb
FROM python:3.11-slim
COPY settings.ini setup.py MANIFEST.in README.md LICENSE NOTICE /source/
COPY tools/types_check.py /source/tools/
COPY ser_nb /source/ser_nb
RUN pip install --no-cache-dir "/source[rest]" && rm -r /source
ENV ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1 HOME=/tmp
USER nobody
EXPOSE 8000
CMD ["uvicorn", "--factory", "ser_nb.more.serving:web_app", "--host", "0.0.0.0", "--port", "8000"]
